package belfry;

import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;

/** A broker to test, and clients for it. */
final class Node {
    /** The longest that one step may take on a busy machine, in ms. */
    static final long STEP = 30_000;

    /** Replicas of a new topic. */
    static final short REPLICAS = Short.parseShort(System.getenv().getOrDefault("BELFRY_REPLICAS", "1"));

    final String bootstrap;
    private final String prefix;

    Node(String bootstrap, String prefix) {
        this.bootstrap = bootstrap;
        this.prefix = prefix;
    }

    String name(String of) {
        return prefix + of;
    }

    /** Creates a topic of this run with settings given as name, value, …; gives its full name. */
    String topic(String name, int partitions, String... settings) throws Exception {
        Map<String, String> config = new java.util.HashMap<>();
        for (int i = 0; i < settings.length; i += 2) config.put(settings[i], settings[i + 1]);
        Modern.create(this, name(name), partitions, config);
        Failover.heard("known", name(name));
        return name(name);
    }

    KafkaProducer<byte[], byte[]> producer(String... settings) {
        Properties p = base("org.apache.kafka.common.serialization.ByteArraySerializer", "serializer");
        p.put("acks", "all");
        p.put("max.block.ms", "20000");
        set(p, settings);
        return new KafkaProducer<>(p);
    }

    KafkaConsumer<byte[], byte[]> consumer(String... settings) {
        Properties p = base("org.apache.kafka.common.serialization.ByteArrayDeserializer", "deserializer");
        p.put("group.id", name("reader"));
        p.put("enable.auto.commit", "false");
        p.put("auto.offset.reset", "earliest");
        p.put("fetch.max.wait.ms", "200");
        set(p, settings);
        return new KafkaConsumer<>(p);
    }

    private Properties base(String coder, String role) {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("key." + role, coder);
        p.put("value." + role, coder);
        p.put("retry.backoff.ms", "50");
        return p;
    }

    private static void set(Properties p, String... settings) {
        for (int i = 0; i < settings.length; i += 2) p.put(settings[i], settings[i + 1]);
    }

    static List<RecordMetadata> send(KafkaProducer<byte[], byte[]> producer, Collection<ProducerRecord<byte[], byte[]>> records) throws Exception {
        List<Future<RecordMetadata>> futures = new ArrayList<>();
        for (ProducerRecord<byte[], byte[]> record : records) futures.add(producer.send(record));
        producer.flush();
        List<RecordMetadata> all = new ArrayList<>();
        for (Future<RecordMetadata> future : futures) all.add(await(future));
        return all;
    }

    /** Gives the answer to a send; an error is thrown as what it is. */
    static RecordMetadata await(Future<RecordMetadata> future) throws Exception {
        try {
            return future.get(STEP, TimeUnit.MILLISECONDS);
        } catch (ExecutionException e) {
            if (e.getCause() instanceof Exception) throw (Exception) e.getCause();
            throw e;
        }
    }

    /** Reads a number of records of partition 0 from an offset on. */
    List<ConsumerRecord<byte[], byte[]>> read(String topic, long from, int count, String... settings) {
        return read(STEP, topic, from, count, settings);
    }

    /** The same within so many ms. */
    List<ConsumerRecord<byte[], byte[]>> read(long millis, String topic, long from, int count, String... settings) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(settings)) {
            TopicPartition partition = new TopicPartition(topic, 0);
            consumer.assign(Collections.singletonList(partition));
            consumer.seek(partition, from);
            return take(millis, consumer, count);
        }
    }

    /** Polls until a number of records has come. */
    static List<ConsumerRecord<byte[], byte[]>> take(KafkaConsumer<byte[], byte[]> consumer, int count) {
        return take(STEP, consumer, count);
    }

    private static List<ConsumerRecord<byte[], byte[]>> take(long millis, KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> all = new ArrayList<>();
        long end = System.nanoTime() + millis * 1_000_000;
        while (all.size() < count) {
            Check.that(System.nanoTime() < end, "read %d of %d records in %d ms", all.size(), count, millis);
            for (ConsumerRecord<byte[], byte[]> record : Poll.once(consumer, 200)) all.add(record);
        }
        return all;
    }
}
