package belfry;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

/**
 * One release writes a topic with each codec, another one reads it: the broker turns message formats
 * into each other. Prints a line a topic: codec, writer, ok or fail, why.
 */
public final class Exchange {
    private static final int MESSAGES = 40;
    private static final String[] CODECS = {"none", "gzip", "snappy", "lz4", "zstd"};
    private static final String[] HEADER_KEYS = {"by", "by"};

    public static void main(String[] args) {
        Release release = new Release(args[0]);
        Node node = new Node(args[2], "exchange-");
        boolean write = args[1].equals("write");
        List<String> writers = write ? Arrays.asList(args[0]) : Arrays.asList(args).subList(3, args.length);
        for (String writer : writers) {
            for (String codec : CODECS) {
                if (codec.equals("zstd") && !new Release(writer).since("2.1")) continue;
                String verdict = "ok\t";
                try {
                    if (write) write(node, release, writer, codec);
                    else read(node, release, writer, codec);
                } catch (Throwable e) {
                    e.printStackTrace();
                    verdict = "fail\t" + String.valueOf(e).replaceAll("\\s+", " ");
                }
                System.out.println(codec + "\t" + writer + "\t" + verdict);
            }
        }
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    private static String topic(String writer, String codec) {
        return writer + "-" + codec;
    }

    private static void write(Node node, Release release, String writer, String codec) throws Exception {
        String topic = node.topic(topic(writer, codec), 1);
        boolean modern = release.since("0.11");
        List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
        long now = System.currentTimeMillis();
        for (int i = 0; i < MESSAGES; i++) {
            byte[] key = i % 5 == 0 ? null : Produce.utf8("key " + i);
            long time = now - 1000 * (i % 3); // not in order
            byte[] value = i % 7 == 0 ? null : Produce.utf8("value " + i + " at " + time);
            sent.add(modern && i % 2 == 0 && value != null
                    ? Modern.withHeaders(topic, value, HEADER_KEYS, headerValues(writer))
                    : Stamp.record(topic, time, key, value));
        }
        String[] settings = {"compression.type", codec, "linger.ms", "20", "batch.size", "600"};
        if (modern) settings = new String[] {"compression.type", codec, "linger.ms", "20", "batch.size", "600", "enable.idempotence", "true", "retries", "10", "max.in.flight.requests.per.connection", "1"};
        try (KafkaProducer<byte[], byte[]> producer = node.producer(settings)) {
            Node.send(producer, sent);
        }
    }

    private static byte[][] headerValues(String writer) {
        return new byte[][] {Produce.utf8(writer), null};
    }

    private static void read(Node node, Release release, String writer, String codec) {
        boolean headers = new Release(writer).since("0.11");
        boolean stamped = new Release(writer).since("0.10");
        // Why: most releases that came before zstd do not know the broker's error, and ask again for ever.
        long limit = codec.equals("zstd") && !release.since("2.1") ? 3000 : Node.STEP;
        for (int from : new int[] {0, 17}) {
            List<ConsumerRecord<byte[], byte[]>> got = node.read(limit, node.name(topic(writer, codec)), from, MESSAGES - from);
            Check.equal("number of messages", MESSAGES - from, got.size());
            for (int i = from; i < MESSAGES; i++) {
                ConsumerRecord<byte[], byte[]> record = got.get(i - from);
                Check.equal("offset", (long) i, record.offset());
                boolean withHeaders = headers && i % 2 == 0 && i % 7 != 0;
                Check.bytes("key of message " + i, i % 5 == 0 || withHeaders ? null : Produce.utf8("key " + i), record.key());
                if (i % 7 == 0) {
                    Check.bytes("tombstone " + i, null, record.value());
                } else {
                    String value = new String(record.value(), StandardCharsets.UTF_8);
                    String want = "value " + i + " at ";
                    Check.that(value.startsWith(want), "message %d is %s, want %s…", i, value, want);
                    if (!withHeaders) Stamp.check(record, stamped ? Long.parseLong(value.substring(want.length())) : -1);
                }
                if (release.since("0.11")) Modern.checkHeaders(record, withHeaders ? HEADER_KEYS : new String[0], withHeaders ? headerValues(writer) : new byte[0][]);
            }
        }
    }

    private Exchange() {}
}
