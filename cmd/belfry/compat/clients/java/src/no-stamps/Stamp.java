package belfry;

import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;

/** In releases before 0.10.0, of message format 0, messages carry no time. */
final class Stamp {
    static ProducerRecord<byte[], byte[]> record(String topic, long time, byte[] key, byte[] value) {
        return new ProducerRecord<>(topic, 0, key, value);
    }

    static void check(ConsumerRecord<byte[], byte[]> record, long time) {}

    static void check(RecordMetadata answer, long time) {}

    private Stamp() {}
}
