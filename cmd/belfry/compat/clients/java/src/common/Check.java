package belfry;

import java.util.Arrays;
import java.util.Objects;
import java.util.concurrent.Callable;

/** What a feature's test expects; what is not so ends the feature. */
final class Check {
    static void that(boolean holds, String format, Object... args) {
        if (!holds) throw new AssertionError(String.format(format, args));
    }

    static void equal(String what, Object want, Object got) {
        that(Objects.equals(want, got), "%s is %s, want %s", what, got, want);
    }

    static void bytes(String what, byte[] want, byte[] got) {
        that(Arrays.equals(want, got), "%s: %s bytes that differ from the %s sent", what,
                got == null ? "no" : got.length, want == null ? "no" : want.length);
    }

    /** Waits until something holds; looks often, gives up after a while. */
    static void until(String what, long millis, Callable<Boolean> holds) throws Exception {
        long end = System.nanoTime() + millis * 1_000_000;
        while (!holds.call()) {
            that(System.nanoTime() < end, "after %d ms still not so: %s", millis, what);
            Thread.sleep(5);
        }
    }

    private Check() {}
}
