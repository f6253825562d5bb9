package belfry;

import java.net.HttpURLConnection;
import java.net.URL;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

/** The leader of a partition dies while one producer writes to it and one member of a group reads it, and comes back. */
final class Failover {
    private static final String FAULTS = System.getenv("BELFRY_FAULTS");
    static final boolean ASKED = FAULTS != null && !FAULTS.isEmpty();
    /** Messages of a round. */
    private static final int ROUND = 50;

    private final Node node;
    private final Release release;
    private final List<String> sent = new ArrayList<>();
    private final List<String> got = new ArrayList<>();

    Failover(Node node, Release release) {
        this.node = node;
        this.release = release;
    }

    /** Each message arrives, in order and once where the release has idempotence. */
    String survive() throws Exception {
        String topic = node.name("failover"); // the test has made it
        boolean once = release.since("0.11");
        String[] settings = {"retries", "1000", "request.timeout.ms", "20000", "max.in.flight.requests.per.connection", "1"};
        if (once) settings = new String[] {"retries", "1000", "request.timeout.ms", "20000", "max.in.flight.requests.per.connection", "1", "enable.idempotence", "true"};
        try (KafkaProducer<byte[], byte[]> producer = node.producer(settings); KafkaConsumer<byte[], byte[]> consumer = node.consumer("group.id", topic)) {
            consumer.subscribe(Collections.singletonList(topic));
            round("before", topic, producer, consumer);
            ask("kill");
            round("without it", topic, producer, consumer);
            ask("restart");
            round("after", topic, producer, consumer);
        }
        if (once) Check.equal("messages", sent, got);
        return once ? null : "Without idempotence a message may arrive twice.";
    }

    private void round(String name, String topic, KafkaProducer<byte[], byte[]> producer, KafkaConsumer<byte[], byte[]> consumer) throws Exception {
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int i = 0; i < ROUND; i++) {
            sent.add(name + " " + i);
            records.add(new ProducerRecord<byte[], byte[]>(topic, 0, null, Produce.utf8(name + " " + i)));
        }
        Node.send(producer, records);
        Set<String> missing = new HashSet<>(sent);
        missing.removeAll(got);
        long end = System.nanoTime() + Node.STEP * 1_000_000;
        while (!missing.isEmpty()) {
            Check.that(System.nanoTime() < end, "in the round \"%s\" %d of %d messages did not arrive", name, missing.size(), sent.size());
            for (ConsumerRecord<byte[], byte[]> record : Poll.once(consumer, 200)) {
                String value = new String(record.value(), java.nio.charset.StandardCharsets.UTF_8);
                got.add(value);
                missing.remove(value);
            }
        }
        consumer.commitSync();
    }

    /** Waits until every node has heard of a new topic ("known") or of its deletion ("gone"). */
    static void heard(String what, String topic) throws Exception {
        if (ASKED) ask(what + "/" + topic);
    }

    private static void ask(String fault) throws Exception {
        HttpURLConnection call = (HttpURLConnection) new URL(FAULTS + "/" + fault).openConnection();
        Check.equal("answer to " + fault, 200, call.getResponseCode());
    }
}
