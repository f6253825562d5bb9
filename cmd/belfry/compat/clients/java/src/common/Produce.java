package belfry;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.errors.RecordTooLargeException;

/** Records on their way in and back. */
final class Produce {
    private static final int MIB = 1 << 20;

    private final Node node;
    private final Release release;

    Produce(Node node, Release release) {
        this.node = node;
        this.release = release;
    }

    static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** 100 messages in several batches: key, value, time, offset come back; also from within a batch. */
    String codec(String codec) throws Exception {
        if (codec.equals("zstd")) release.need("2.1", "zstd");
        String topic = node.topic("produce-" + codec, 1);
        long time = System.currentTimeMillis() - 1_000_000;
        List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
        for (int i = 0; i < 100; i++) {
            byte[] key = i % 7 == 0 ? null : utf8("key " + i);
            sent.add(Stamp.record(topic, time + 1000 * i, key, utf8(("value " + i + " of " + codec + " ").repeat(10))));
        }
        List<RecordMetadata> answers;
        try (KafkaProducer<byte[], byte[]> producer = node.producer("compression.type", codec, "linger.ms", "20", "batch.size", "2000")) {
            answers = Node.send(producer, sent);
        }
        for (int from : new int[] {0, 5, 61, 99}) {
            List<ConsumerRecord<byte[], byte[]>> got = node.read(topic, from, 100 - from);
            Check.equal("number of messages from offset " + from, 100 - from, got.size());
            for (int i = from; i < 100; i++) {
                ConsumerRecord<byte[], byte[]> record = got.get(i - from);
                Check.equal("offset of message " + i, (long) i, record.offset());
                Check.equal("answered offset of message " + i, (long) i, answers.get(i).offset());
                Stamp.check(answers.get(i), time + 1000 * i);
                Check.bytes("key of message " + i, sent.get(i).key(), record.key());
                Check.bytes("value of message " + i, sent.get(i).value(), record.value());
                Stamp.check(record, time + 1000 * i);
            }
        }
        return null;
    }

    String idempotent() throws Exception {
        release.need("0.11", "idempotence");
        String topic = node.topic("idempotent", 1);
        List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
        for (int i = 0; i < 1000; i++) sent.add(new ProducerRecord<>(topic, 0, null, utf8("value " + i)));
        String inFlight = release.since("1.0") ? "5" : "1";
        for (int session = 0; session < 2; session++) { // the second producer has another ID
            try (KafkaProducer<byte[], byte[]> producer = node.producer("enable.idempotence", "true", "retries", "100", "batch.size", "200", "max.in.flight.requests.per.connection", inFlight)) {
                Node.send(producer, sent);
            }
        }
        List<ConsumerRecord<byte[], byte[]>> got = node.read(topic, 0, 2000);
        Check.equal("number of messages", 2000, got.size());
        for (int i = 0; i < 2000; i++) Check.bytes("message " + i, sent.get(i % 1000).value(), got.get(i).value());
        return null;
    }

    String headers() throws Exception {
        release.need("0.11", "headers");
        String topic = node.topic("headers", 1);
        String[] keys = {"a", "a", "", "schlüssel", "none"};
        byte[][] values = {utf8("1"), utf8("2"), utf8("of an empty key"), new byte[0], null};
        try (KafkaProducer<byte[], byte[]> producer = node.producer("compression.type", "gzip")) {
            Node.await(producer.send(Modern.withHeaders(topic, utf8("with"), keys, values)));
            Node.await(producer.send(new ProducerRecord<>(topic, 0, null, utf8("without"))));
        }
        List<ConsumerRecord<byte[], byte[]>> got = node.read(topic, 0, 2);
        Modern.checkHeaders(got.get(0), keys, values);
        Modern.checkHeaders(got.get(1), new String[0], new byte[0][]);
        return null;
    }

    String tombstone() throws Exception {
        String topic = node.topic("tombstone", 1, "cleanup.policy", "compact");
        try (KafkaProducer<byte[], byte[]> producer = node.producer()) {
            Node.send(producer, Arrays.asList(
                    new ProducerRecord<>(topic, 0, utf8("a"), utf8("1")),
                    new ProducerRecord<>(topic, 0, utf8("b"), new byte[0]),
                    new ProducerRecord<>(topic, 0, utf8("a"), null)));
            try {
                Node.await(producer.send(new ProducerRecord<>(topic, 0, null, utf8("keyless"))));
                throw new AssertionError("a compacted topic took a message without key");
            } catch (org.apache.kafka.common.KafkaException e) {
                System.err.println("message without key: " + e);
            }
        }
        List<ConsumerRecord<byte[], byte[]>> got = node.read(topic, 0, 3);
        Check.equal("number of messages", 3, got.size());
        Check.bytes("value of the first", utf8("1"), got.get(0).value());
        Check.bytes("empty value", new byte[0], got.get(1).value());
        Check.bytes("tombstone's key", utf8("a"), got.get(2).key());
        Check.bytes("tombstone's value", null, got.get(2).value());
        return null;
    }

    /** Values of random bytes, as a batch is measured as it was sent. */
    String large() throws Exception {
        String topic = node.topic("large", 1);
        byte[] value = new byte[9 * MIB];
        new Random(9).nextBytes(value);
        try (KafkaProducer<byte[], byte[]> producer = node.producer("max.request.size", "" + 16 * MIB, "buffer.memory", "" + 32 * MIB)) {
            Node.await(producer.send(new ProducerRecord<>(topic, 0, null, value)));
            try {
                Node.await(producer.send(new ProducerRecord<>(topic, 0, null, new byte[11 * MIB])));
                throw new AssertionError("11 MiB were taken");
            } catch (RecordTooLargeException e) {
                System.err.println("11 MiB: " + e);
            }
            Node.await(producer.send(new ProducerRecord<>(topic, 0, null, utf8("after"))));
        }
        // Before 0.10.1 a message larger than the fetch size cannot be read; after, the first one always is.
        String[] settings = release.since("0.10.1") ? new String[0] : new String[] {"max.partition.fetch.bytes", "" + 16 * MIB};
        List<ConsumerRecord<byte[], byte[]>> got = node.read(topic, 0, 2, settings);
        Check.equal("number of messages", 2, got.size());
        Check.bytes("9 MiB", value, got.get(0).value());
        Check.bytes("what follows", utf8("after"), got.get(1).value());
        return null;
    }
}
