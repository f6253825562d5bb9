package belfry;

import java.util.Collections;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.AdminClient;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** What releases from 0.11 on have: the admin client and headers. */
final class Modern {
    static final boolean ADMIN = true;

    static void create(Node node, String topic, int partitions, Map<String, String> config) throws Exception {
        try (AdminClient admin = admin(node)) {
            NewTopic fresh = new NewTopic(topic, partitions, Node.REPLICAS).configs(config);
            await(admin.createTopics(Collections.singleton(fresh)).all());
        }
    }

    static void delete(Node node, String topic) throws Exception {
        try (AdminClient admin = admin(node)) {
            await(admin.deleteTopics(Collections.singleton(topic)).all());
            Failover.heard("gone", topic);
            Check.that(!await(admin.listTopics().names()).contains(topic), "topic %s is listed after its deletion", topic);
        }
    }

    static ProducerRecord<byte[], byte[]> withHeaders(String topic, byte[] value, String[] keys, byte[][] values) {
        ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, 0, null, value);
        for (int i = 0; i < keys.length; i++) record.headers().add(new RecordHeader(keys[i], values[i]));
        return record;
    }

    static void checkHeaders(ConsumerRecord<byte[], byte[]> record, String[] keys, byte[][] values) {
        Header[] headers = record.headers().toArray();
        Check.equal("number of headers", keys.length, headers.length);
        for (int i = 0; i < keys.length; i++) {
            Check.equal("key of header " + i, keys[i], headers[i].key());
            Check.bytes("value of header " + i, values[i], headers[i].value());
        }
    }

    static Absent absent() {
        throw new IllegalStateException("this release has an admin client");
    }

    private static AdminClient admin(Node node) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", node.bootstrap);
        settings.put("request.timeout.ms", "20000");
        return AdminClient.create(settings);
    }

    private static <T> T await(org.apache.kafka.common.KafkaFuture<T> future) throws Exception {
        try {
            return future.get(30, TimeUnit.SECONDS);
        } catch (ExecutionException e) {
            if (e.getCause() instanceof Exception) throw (Exception) e.getCause();
            throw e;
        }
    }

    private Modern() {}
}
