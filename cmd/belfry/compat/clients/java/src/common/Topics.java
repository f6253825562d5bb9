package belfry;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.TimeoutException;

/** Topics that come, that cannot be, and that live on an old broker. */
final class Topics {
    private static final String BAD_NAME = "no/such name";

    private final Node node;
    private final Node old;
    private final Release release;

    Topics(Node node, Node old, Release release) {
        this.node = node;
        this.old = old;
        this.release = release;
    }

    String create() throws Exception {
        if (!Modern.ADMIN) throw Modern.absent();
        String topic = node.topic("create", 3, "retention.ms", "7200000");
        try (KafkaConsumer<byte[], byte[]> consumer = node.consumer()) {
            Check.equal("number of partitions", 3, consumer.partitionsFor(topic).size());
        }
        try {
            node.topic("create", 3);
            throw new AssertionError("a topic was created twice");
        } catch (KafkaException e) { // the class came with 0.10.1
            Check.equal("error of the second creation", "TopicExistsException", e.getClass().getSimpleName());
            System.err.println("created twice: " + e);
        }
        Modern.delete(node, topic);
        return null;
    }

    /** An illegal name: refused at creation, by the producer, by the consumer. */
    String wrong() throws Exception {
        if (Modern.ADMIN) {
            try {
                Modern.create(node, BAD_NAME, 1, Collections.<String, String>emptyMap());
                throw new AssertionError("a topic with an illegal name was created");
            } catch (InvalidTopicException e) {
                System.err.println("create: " + e);
            }
        }
        boolean silent = !release.since("2.3");
        try (KafkaProducer<byte[], byte[]> producer = node.producer("max.block.ms", "3000")) {
            Node.await(producer.send(new ProducerRecord<>(BAD_NAME, 0, null, Produce.utf8("lost"))));
            throw new AssertionError("a message to a topic with an illegal name was taken");
        } catch (InvalidTopicException e) {
            System.err.println("send: " + e);
        } catch (TimeoutException e) {
            if (!silent) throw e;
        }
        try (KafkaConsumer<byte[], byte[]> consumer = node.consumer("group.id", node.name("wrong"))) {
            consumer.subscribe(Collections.singletonList(BAD_NAME));
            for (int i = 0; i < 30; i++) Check.that(Poll.once(consumer, 100).isEmpty(), "messages of a topic with an illegal name");
            Check.that(silent, "a consumer of a topic with an illegal name does not complain");
        } catch (InvalidTopicException e) {
            System.err.println("poll: " + e);
        }
        if (silent) return "The broker's answer stands in this release's log only: its producer times out, its consumer waits.";
        return null;
    }

    /** What a client does every day, against a broker that offers what Kafka 1.1 did. */
    String oldNode() throws Exception {
        String topic = old.name("old");
        if (Modern.ADMIN) old.topic("old", 1); // else the node creates it when the producer asks for it
        List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
        for (int i = 0; i < 100; i++) sent.add(new ProducerRecord<>(topic, 0, null, Produce.utf8("value " + i)));
        try (KafkaProducer<byte[], byte[]> producer = old.producer("compression.type", "lz4", "retries", "100")) {
            Node.send(producer, sent);
        }
        try (KafkaConsumer<byte[], byte[]> consumer = old.consumer("group.id", old.name("old"))) {
            consumer.subscribe(Collections.singletonList(topic));
            List<ConsumerRecord<byte[], byte[]>> got = Node.take(consumer, 100);
            Check.equal("number of messages", 100, got.size());
            for (int i = 0; i < 100; i++) Check.bytes("message " + i, sent.get(i).value(), got.get(i).value());
            consumer.commitSync();
        }
        return null;
    }
}
