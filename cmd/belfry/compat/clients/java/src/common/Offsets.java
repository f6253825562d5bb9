package belfry;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** Where a reader goes on, and where it begins. */
final class Offsets {
    private final Node node;

    Offsets(Node node) {
        this.node = node;
    }

    String commitAndResume() throws Exception {
        String topic = node.topic("resume", 1);
        String group = node.name("resume");
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaProducer<byte[], byte[]> producer = node.producer()) {
            List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
            for (int i = 0; i < 100; i++) sent.add(new ProducerRecord<>(topic, 0, null, Produce.utf8("value " + i)));
            Node.send(producer, sent);
        }
        try (KafkaConsumer<byte[], byte[]> first = node.consumer("group.id", group)) {
            first.subscribe(Collections.singletonList(topic));
            Check.equal("offset of the first message", 0L, Node.take(first, 40).get(0).offset());
            first.commitSync(Collections.singletonMap(partition, new OffsetAndMetadata(40, "forty")));
        }
        try (KafkaConsumer<byte[], byte[]> second = node.consumer("group.id", group)) {
            second.subscribe(Collections.singletonList(topic));
            List<ConsumerRecord<byte[], byte[]>> got = Node.take(second, 60);
            Check.equal("number of messages of the second member", 60, got.size());
            Check.equal("offset that the second member began at", 40L, got.get(0).offset());
            OffsetAndMetadata committed = Committed.of(second, partition);
            Check.equal("committed offset", 40L, committed.offset());
            Check.equal("metadata of the commit", "forty", committed.metadata());
            second.commitSync();
            Check.equal("committed offset of the second member", 100L, Committed.of(second, partition).offset());
        }
        return null;
    }

    /** One compressed batch of ten a second apart, so that the answer lies within it. */
    String seekByTime() throws Exception {
        String topic = node.topic("times", 1);
        TopicPartition partition = new TopicPartition(topic, 0);
        long time = System.currentTimeMillis() - 1_000_000;
        try (KafkaProducer<byte[], byte[]> producer = node.producer("compression.type", "gzip", "linger.ms", "500")) {
            for (int batch = 0; batch < 2; batch++) {
                List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
                for (int i = 10 * batch; i < 10 * batch + 10; i++) sent.add(Stamp.record(topic, time + 1000 * i, null, Produce.utf8("value " + i)));
                Node.send(producer, sent);
            }
        }
        try (KafkaConsumer<byte[], byte[]> consumer = node.consumer()) {
            consumer.assign(Collections.singletonList(partition));
            Check.equal("offset at a time before all", 0L, Times.offset(consumer, partition, time - 5000));
            Check.equal("offset at the time of message 5", 5L, Times.offset(consumer, partition, time + 5000));
            Check.equal("offset just after message 5", 6L, Times.offset(consumer, partition, time + 5001));
            Check.equal("offset at the time of message 13", 13L, Times.offset(consumer, partition, time + 13_000));
            Check.equal("offset at a time after all", null, Times.offset(consumer, partition, time + 100_000));
            consumer.seek(partition, Times.offset(consumer, partition, time + 13_000));
            List<ConsumerRecord<byte[], byte[]>> got = Node.take(consumer, 7);
            Check.equal("number of messages from there on", 7, got.size());
            Check.bytes("the first message from there on", Produce.utf8("value 13"), got.get(0).value());
        }
        return null;
    }
}
