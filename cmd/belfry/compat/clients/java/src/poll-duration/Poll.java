package belfry;

import java.time.Duration;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;

final class Poll {
    static ConsumerRecords<byte[], byte[]> once(KafkaConsumer<byte[], byte[]> consumer, long millis) {
        return consumer.poll(Duration.ofMillis(millis));
    }

    private Poll() {}
}
