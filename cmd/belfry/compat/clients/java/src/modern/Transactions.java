package belfry;

import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;

/** Transactions: what is committed is seen, offsets included, what is aborted is not, and an older producer of the name is fenced. */
final class Transactions {
    private static final int MESSAGES = 10;

    private final Node node;
    private final Release release;

    Transactions(Node node, Release release) {
        this.node = node;
        this.release = release;
    }

    String copy() throws Exception {
        String in = node.topic("txn-in", 1);
        String out = node.topic("txn-out", 1);
        try (KafkaProducer<byte[], byte[]> producer = node.producer()) {
            Node.send(producer, records(in, "message", MESSAGES));
        }
        List<String> want = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = transactional(); KafkaConsumer<byte[], byte[]> consumer = node.consumer("group.id", in)) {
            consumer.subscribe(Collections.singletonList(in));
            producer.beginTransaction();
            for (ConsumerRecord<byte[], byte[]> record : Node.take(consumer, MESSAGES)) {
                want.add(text(record));
                Node.await(producer.send(new ProducerRecord<>(out, 0, null, record.value())));
            }
            offsets(producer, consumer, in, Collections.singletonMap(new TopicPartition(in, 0), new OffsetAndMetadata(MESSAGES)));
            producer.commitTransaction();

            producer.beginTransaction();
            Node.send(producer, records(out, "aborted", 5));
            producer.abortTransaction();

            producer.beginTransaction();
            Node.send(producer, records(out, "later", 5));
            producer.commitTransaction();
            for (int i = 0; i < 5; i++) want.add("later " + i);
            Check.equal("offset committed with a transaction", (long) MESSAGES, Committed.of(consumer, new TopicPartition(in, 0)).offset());
            fence(producer, out);
        }
        want.add("fence 0");
        Check.equal("committed messages", want, texts(node.read(out, 0, want.size(), "isolation.level", "read_committed")));
        int all = want.size() + 5;
        Check.equal("number of messages with the aborted ones", all, node.read(out, 0, all, "isolation.level", "read_uncommitted").size());
        return null;
    }

    /** Another producer takes the name: the first one's transaction does not come about. */
    private void fence(KafkaProducer<byte[], byte[]> first, String out) throws Exception {
        first.beginTransaction();
        try (KafkaProducer<byte[], byte[]> second = transactional()) {
            second.beginTransaction();
            Node.send(second, records(out, "fence", 1));
            second.commitTransaction();
        }
        try {
            Node.send(first, records(out, "fenced", 1));
            first.commitTransaction();
        } catch (KafkaException e) {
            System.err.println("fenced: " + e);
            return;
        }
        throw new AssertionError("a producer whose name was taken committed");
    }

    private KafkaProducer<byte[], byte[]> transactional() {
        String inFlight = release.since("1.0") ? "5" : "1";
        KafkaProducer<byte[], byte[]> producer = node.producer("transactional.id", node.name("txn"), "enable.idempotence", "true", "retries", "100", "max.in.flight.requests.per.connection", inFlight);
        producer.initTransactions();
        return producer;
    }

    /** Sends offsets with the transaction; the method that names the group is gone in 4.0, that with its metadata came with 2.5. */
    private static void offsets(KafkaProducer<byte[], byte[]> producer, KafkaConsumer<byte[], byte[]> consumer, String group, Map<TopicPartition, OffsetAndMetadata> offsets) throws Exception {
        Method byName = null;
        for (Method method : KafkaProducer.class.getMethods()) {
            if (!method.getName().equals("sendOffsetsToTransaction")) continue;
            if (method.getParameterTypes()[1] != String.class) {
                method.invoke(producer, offsets, KafkaConsumer.class.getMethod("groupMetadata").invoke(consumer));
                return;
            }
            byName = method;
        }
        byName.invoke(producer, offsets, group);
    }

    private static List<ProducerRecord<byte[], byte[]>> records(String topic, String name, int count) {
        List<ProducerRecord<byte[], byte[]>> all = new ArrayList<>();
        for (int i = 0; i < count; i++) all.add(new ProducerRecord<byte[], byte[]>(topic, 0, null, Produce.utf8(name + " " + i)));
        return all;
    }

    private static List<String> texts(List<ConsumerRecord<byte[], byte[]>> records) {
        List<String> all = new ArrayList<>();
        for (ConsumerRecord<byte[], byte[]> record : records) all.add(text(record));
        return all;
    }

    private static String text(ConsumerRecord<byte[], byte[]> record) {
        return new String(record.value(), StandardCharsets.UTF_8);
    }
}
