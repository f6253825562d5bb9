import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * A Java client under faults. It tells on its standard output what it was told, a line each:
 * "acked PARTITION OFFSET NUMBER" (-1: it was not told the offset), "failed NUMBER WHY", "read PARTITION OFFSET VALUE", "copied PARTITION OFFSET VALUE", "broken WHY".
 * It ends when its standard input does.
 *
 * <p>usage: Client.java produce|group|assign|copy BOOTSTRAP TOPIC NAME RATE PARTITIONS PROTOCOL-OR-TARGET
 */
public class Client {
    private static final PrintStream OUT = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    private static volatile boolean over = false;

    public static void main(String[] args) throws Exception {
        Thread input = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (java.io.IOException e) { /* it has ended, too */ }
            over = true;
        });
        input.setDaemon(true);
        input.start();
        Properties p = new Properties();
        p.put("bootstrap.servers", args[1]);
        p.put("client.id", args[3]);
        p.put("request.timeout.ms", "4000");
        p.put("metadata.max.age.ms", "5000");
        p.put("socket.connection.setup.timeout.ms", "3000");
        p.put("reconnect.backoff.max.ms", "500");
        try {
            if (args[0].equals("produce")) {
                produce(p, args[2], args[3], Integer.parseInt(args[4]), Integer.parseInt(args[5]));
            } else if (args[0].equals("copy")) {
                twice(i -> copy(p, args[2], args[6], args[3] + "-" + i));
            } else if (args[0].equals("group")) {
                twice(i -> consume(p, true, args[2], args[3], 0, args[6]));
            } else {
                consume(p, false, args[2], args[3], Integer.parseInt(args[5]), "");
            }
        } catch (Exception e) {
            say("broken " + e);
            System.exit(1);
        }
        System.exit(0);
    }

    private interface Member {
        void run(int i) throws Exception;
    }

    /** Runs two members of a group in this process. */
    private static void twice(Member m) throws Exception {
        List<Thread> all = new ArrayList<>();
        for (int i = 0; i < 2; i++) {
            int number = i;
            Thread t = new Thread(() -> {
                try {
                    m.run(number);
                } catch (Exception e) {
                    say("broken " + e);
                    System.exit(1);
                }
            });
            t.start();
            all.add(t);
        }
        for (Thread t : all) {
            t.join();
        }
    }

    private static synchronized void say(String line) {
        OUT.println(line.replace('\n', ' '));
        OUT.flush();
    }

    private static void produce(Properties p, String topic, String name, int rate, int partitions) throws Exception {
        p.put("delivery.timeout.ms", String.valueOf(Integer.MAX_VALUE));
        p.put("max.block.ms", String.valueOf(Long.MAX_VALUE));
        p.put("linger.ms", "1");
        p.put("compression.type", "snappy");
        KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer());
        long next = System.nanoTime();
        for (int i = 0; !over; i++) {
            int number = i;
            byte[] value = (name + " " + i + " " + String.valueOf((char) ('a' + i % 26)).repeat(200 + i % 800)).getBytes(StandardCharsets.UTF_8);
            producer.send(new ProducerRecord<>(topic, i % partitions, null, value), (m, e) -> {
                if (e == null) {
                    say("acked " + m.partition() + " " + m.offset() + " " + number);
                } else if (!over) {
                    say("failed " + number + " " + e);
                }
            });
            next = Math.max(next + 1_000_000_000L / rate, System.nanoTime() - 1_000_000_000L);
            long wait = next - System.nanoTime();
            if (wait > 0) {
                Thread.sleep(wait / 1_000_000, (int) (wait % 1_000_000));
            }
        }
        producer.close(Duration.ofSeconds(60));
    }

    /** Copies what is committed, each message to the same partition, in transactions with the offsets that were read. */
    private static void copy(Properties common, String from, String to, String name) throws Exception {
        while (!over) {
            Properties pp = new Properties();
            pp.putAll(common);
            pp.put("transactional.id", name);
            pp.put("transaction.timeout.ms", "10000");
            pp.put("max.block.ms", "60000");
            Properties cp = new Properties();
            cp.putAll(common);
            cp.put("group.id", "java-copiers");
            cp.put("enable.auto.commit", "false");
            cp.put("auto.offset.reset", "earliest");
            cp.put("isolation.level", "read_committed");
            cp.put("session.timeout.ms", "10000");
            cp.put("max.poll.records", "100");
            KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(pp, new ByteArraySerializer(), new ByteArraySerializer());
            KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(cp, new ByteArrayDeserializer(), new ByteArrayDeserializer());
            try {
                producer.initTransactions();
                consumer.subscribe(List.of(from));
                while (!over) {
                    copySome(producer, consumer, to);
                }
            } catch (Exception e) {
                // Both are good for nothing more; their successors take up what was not committed.
                System.err.println(name + ": " + e);
                Thread.sleep(200);
            } finally {
                producer.close(Duration.ZERO);
                consumer.close(CloseOptions.timeout(Duration.ofSeconds(5)));
            }
        }
    }

    private static void copySome(KafkaProducer<byte[], byte[]> producer, KafkaConsumer<byte[], byte[]> consumer, String to) throws Exception {
        ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(200));
        if (records.isEmpty()) {
            return;
        }
        producer.beginTransaction();
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        List<byte[]> values = new ArrayList<>();
        Map<TopicPartition, OffsetAndMetadata> read = new HashMap<>();
        for (ConsumerRecord<byte[], byte[]> r : records) {
            sent.add(producer.send(new ProducerRecord<>(to, r.partition(), null, r.value())));
            values.add(r.value());
            read.put(new TopicPartition(r.topic(), r.partition()), new OffsetAndMetadata(r.offset() + 1));
        }
        producer.sendOffsetsToTransaction(read, consumer.groupMetadata());
        producer.commitTransaction();
        for (int i = 0; i < sent.size(); i++) {
            RecordMetadata m = sent.get(i).get();
            say("copied " + m.partition() + " " + m.offset() + " " + new String(values.get(i), StandardCharsets.UTF_8));
        }
    }

    private static void consume(Properties common, boolean group, String topic, String name, int partitions, String protocol) {
        Properties p = new Properties();
        p.putAll(common);
        p.put("auto.offset.reset", group ? "earliest" : "none");
        p.put("enable.auto.commit", String.valueOf(group));
        p.put("auto.commit.interval.ms", "500");
        if (group) {
            p.put("group.id", name);
            p.put("group.protocol", protocol);
            if (protocol.equals("classic")) {
                p.put("session.timeout.ms", "10000");
            }
        }
        KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        if (group) {
            consumer.subscribe(List.of(topic));
        } else {
            List<TopicPartition> all = new ArrayList<>();
            for (int i = 0; i < partitions; i++) {
                all.add(new TopicPartition(topic, i));
            }
            consumer.assign(all);
            consumer.seekToBeginning(all);
        }
        while (!over) {
            for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofMillis(200))) {
                say("read " + r.partition() + " " + r.offset() + " " + new String(r.value(), StandardCharsets.UTF_8));
            }
        }
        consumer.close(CloseOptions.timeout(Duration.ofSeconds(10)));
    }
}
