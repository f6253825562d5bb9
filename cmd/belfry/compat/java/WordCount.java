import java.time.Duration;
import java.util.Arrays;
import java.util.Locale;
import java.util.Properties;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.StateRestoreListener;

/**
 * Counts words with Kafka Streams: one repartition topic, one store with its changelog. Ends cleanly when its standard
 * input does. It prints "state NAME" when its state changes, "restored STORE N" when a store was read back, "saw WORD".
 */
public class WordCount {
    public static void main(String[] args) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", args[0]);
        p.put("application.id", args[1]);
        p.put("state.dir", args[4]);
        p.put("commit.interval.ms", "200");
        p.put("cache.max.bytes.buffering", "0"); // before 3.4
        p.put("statestore.cache.max.bytes", "0"); // since: every change goes out
        p.put("replication.factor", args[5]);
        p.put("processing.guarantee", args[6]);
        p.put("session.timeout.ms", "10000");
        p.put("auto.offset.reset", "earliest");

        StreamsBuilder b = new StreamsBuilder();
        b.stream(args[2], Consumed.with(Serdes.String(), Serdes.String()))
            .flatMapValues(line -> Arrays.asList(line.toLowerCase(Locale.ROOT).split("\\W+")))
            .peek((key, word) -> say("saw " + word))
            .groupBy((key, word) -> word, Grouped.with(Serdes.String(), Serdes.String()))
            .count(Materialized.as("counts"))
            .toStream()
            .mapValues(n -> Long.toString(n))
            .to(args[3], Produced.with(Serdes.String(), Serdes.String()));

        KafkaStreams streams = new KafkaStreams(b.build(), p);
        streams.setStateListener((now, before) -> say("state " + now));
        streams.setGlobalStateRestoreListener(new StateRestoreListener() {
            @Override
            public void onRestoreStart(TopicPartition partition, String store, long from, long to) {
            }

            @Override
            public void onBatchRestored(TopicPartition partition, String store, long end, long n) {
            }

            @Override
            public void onRestoreEnd(TopicPartition partition, String store, long n) {
                say("restored " + store + " " + n);
            }
        });
        streams.start();
        while (System.in.read() >= 0) {
        }
        boolean closed = streams.close(Duration.ofSeconds(60));
        say("closed " + closed);
    }

    static synchronized void say(String line) {
        System.out.println(line);
    }
}
