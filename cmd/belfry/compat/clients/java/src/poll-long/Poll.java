package belfry;

import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;

/** Releases before 2.0 know milliseconds only. */
final class Poll {
    static ConsumerRecords<byte[], byte[]> once(KafkaConsumer<byte[], byte[]> consumer, long millis) {
        return consumer.poll(millis);
    }

    private Poll() {}
}
