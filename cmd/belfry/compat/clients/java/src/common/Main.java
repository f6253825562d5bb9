package belfry;

import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** Tries every feature of one release of kafka-clients once and prints a line for each. */
public final class Main {
    /** The longest that one feature may take, in seconds. */
    private static final long LIMIT = 60;

    public static void main(String[] args) {
        Release release = new Release(args[0]);
        Node node = new Node(args[1], args[3]);
        Node old = new Node(args[2], args[3]);
        Produce produce = new Produce(node, release);
        Groups groups = new Groups(node, release);
        Topics topics = new Topics(node, old, release);
        Offsets offsets = new Offsets(node);

        feature("create-topic", topics::create);
        for (String codec : new String[] {"none", "gzip", "snappy", "lz4", "zstd"}) {
            feature("produce-" + codec, () -> produce.codec(codec));
        }
        feature("idempotent", produce::idempotent);
        feature("transactions", new Transactions(node, release)::copy);
        feature("group-eager", groups::eager);
        feature("group-cooperative", groups::cooperative);
        feature("group-static", groups::fixed);
        feature("group-new-protocol", groups::newProtocol);
        feature("commit-resume", offsets::commitAndResume);
        feature("seek-by-time", offsets::seekByTime);
        feature("headers", produce::headers);
        feature("tombstone", produce::tombstone);
        feature("large-message", produce::large);
        feature("wrong-topic", topics::wrong);
        feature("unknown-version", topics::oldNode);
        if (Failover.ASKED) feature("failover", new Failover(node, release)::survive);
        System.out.flush();
        Runtime.getRuntime().halt(0); // a client that hangs must not keep the program
    }

    /** Runs one feature with a limit; what it returns is a remark, null for none. */
    private static void feature(String name, Callable<String> body) {
        FutureTask<String> task = new FutureTask<>(body);
        Thread thread = new Thread(task, name);
        thread.setDaemon(true);
        long began = System.nanoTime();
        thread.start();
        try {
            String remark = task.get(LIMIT, TimeUnit.SECONDS);
            print(name, "ok", remark == null ? "" : remark);
        } catch (TimeoutException e) {
            print(name, "fail", "not at its end after " + LIMIT + " s");
            for (Map.Entry<Thread, StackTraceElement[]> entry : Thread.getAllStackTraces().entrySet()) {
                System.err.println(entry.getKey());
                for (StackTraceElement frame : entry.getValue()) System.err.println("    " + frame);
            }
        } catch (ExecutionException e) {
            if (e.getCause() instanceof Absent) {
                print(name, "none", e.getCause().getMessage());
            } else {
                print(name, "fail", String.valueOf(e.getCause()));
                e.getCause().printStackTrace();
            }
        } catch (InterruptedException e) {
            print(name, "fail", "interrupted");
        }
        System.err.printf("%s took %d ms%n", name, (System.nanoTime() - began) / 1_000_000);
    }

    private static void print(String feature, String verdict, String why) {
        System.out.println(feature + "\t" + verdict + "\t" + why.replaceAll("\\s+", " "));
        System.out.flush();
    }

    private Main() {}
}
