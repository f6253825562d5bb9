package belfry;

import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.record.TimestampType;

/** The time that a message carries, in ms since 1970. */
final class Stamp {
    static ProducerRecord<byte[], byte[]> record(String topic, long time, byte[] key, byte[] value) {
        return new ProducerRecord<>(topic, 0, time, key, value);
    }

    /** Checks the time of a message that was read; -1 is none. */
    static void check(ConsumerRecord<byte[], byte[]> record, long time) {
        Check.equal("time of message " + record.offset(), time, record.timestamp());
        Check.equal("kind of time of message " + record.offset(), TimestampType.CREATE_TIME, record.timestampType());
    }

    /** Checks the time that the broker answered with. */
    static void check(RecordMetadata answer, long time) {
        Check.equal("answered time of message " + answer.offset(), time, answer.timestamp());
    }

    private Stamp() {}
}
