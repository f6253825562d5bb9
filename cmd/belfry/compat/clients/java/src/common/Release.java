package belfry;

/** Which release of kafka-clients this is. */
final class Release {
    private final int[] parts;

    Release(String version) {
        parts = parse(version);
    }

    boolean since(String version) {
        int[] other = parse(version);
        for (int i = 0; i < Math.max(parts.length, other.length); i++) {
            int a = i < parts.length ? parts[i] : 0;
            int b = i < other.length ? other[i] : 0;
            if (a != b) return a > b;
        }
        return true;
    }

    void need(String version, String what) {
        if (!since(version)) throw new Absent("kafka-clients has " + what + " from " + version + " on");
    }

    private static int[] parse(String version) {
        String[] texts = version.split("\\.");
        int[] numbers = new int[texts.length];
        for (int i = 0; i < texts.length; i++) numbers[i] = Integer.parseInt(texts[i]);
        return numbers;
    }
}
