package belfry;

import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;

/** Releases before 0.11 have neither an admin client nor headers. */
final class Modern {
    static final boolean ADMIN = false;

    /** Makes the topics of the other features, which such a client leaves to tools. */
    static void create(Node node, String topic, int partitions, Map<String, String> config) throws Exception {
        RawCreate.topic(node.bootstrap, topic, partitions, config);
    }

    static void delete(Node node, String topic) {
        throw absent();
    }

    static ProducerRecord<byte[], byte[]> withHeaders(String topic, byte[] value, String[] keys, byte[][] values) {
        throw new Absent("kafka-clients has headers from 0.11 on");
    }

    static void checkHeaders(ConsumerRecord<byte[], byte[]> record, String[] keys, byte[][] values) {
        throw new Absent("kafka-clients has headers from 0.11 on");
    }

    static Absent absent() {
        return new Absent("kafka-clients has an admin client from 0.11 on; its topics here were made by auto-creation or a raw request");
    }

    private Modern() {}
}
