package belfry;

import java.nio.charset.StandardCharsets;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/** One member of a group whose other members are other programs. */
public final class Lone {
    public static void main(String[] args) throws Exception {
        Node node = new Node(args[0], "");
        try (Member member = new Member("lone", node.consumer("group.id", args[1], "session.timeout.ms", "10000", "heartbeat.interval.ms", "300"), args[2])) {
            Thread ear = new Thread(Lone::untilEnd);
            ear.setDaemon(true);
            ear.start();
            int said = -1;
            while (ear.isAlive()) {
                int partitions = member.assigned().size();
                if (partitions != said) System.out.println("has\t" + partitions);
                said = partitions;
                for (ConsumerRecord<byte[], byte[]> record = member.records.poll(); record != null; record = member.records.poll()) {
                    System.out.println("read\t" + new String(record.value(), StandardCharsets.UTF_8));
                }
                Thread.sleep(5);
            }
        }
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    private static void untilEnd() {
        try {
            while (System.in.read() >= 0) continue;
        } catch (java.io.IOException e) {
            System.err.println(e);
        }
    }

    private Lone() {}
}
