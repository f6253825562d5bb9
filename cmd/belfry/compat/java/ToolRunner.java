import java.io.ByteArrayInputStream;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs many of Kafka's command-line tools in one virtual machine, also several at a time, because starting one takes
 * longer than most tools do. Each call has its own standard streams, exit code and shutdown hooks.
 *
 * In: lines "run ID CLASS STDIN ARGUMENT…" and "stop ID" (as a signal would: the hooks run); STDIN and arguments are Base64
 * with a leading "=" so that none is empty. Out: lines "out ID BASE64", "err ID BASE64" and last "exit ID CODE".
 */
public class ToolRunner {
    /** Thrown by the trapped Exit.exit; an Error, so that no tool takes it for a failure of its own. */
    static final class Exited extends Error {
        Exited() {
            super("exit", null, false, false);
        }
    }

    /** One call of one tool. */
    static final class Call {
        final String id;
        final InputStream in;
        final PrintStream out;
        final PrintStream err;
        final List<Runnable> hooks = new ArrayList<>();
        Integer code;
        boolean inHooks;

        Call(String id, byte[] stdin) {
            this.id = id;
            in = new ByteArrayInputStream(stdin);
            out = new PrintStream(new Pipe("out", this), true, StandardCharsets.UTF_8);
            err = new PrintStream(new Pipe("err", this), true, StandardCharsets.UTF_8);
        }

        synchronized void exit(int status) {
            if (code == null) {
                code = status;
            }
        }

        /** After an exit only shutdown hooks print: what a tool makes of the Error is none of its output. */
        synchronized boolean ended() {
            return code != null && !inHooks;
        }

        synchronized List<Runnable> takeHooks() {
            inHooks = true;
            List<Runnable> all = new ArrayList<>(hooks);
            hooks.clear();
            return all;
        }
    }

    /** What a call prints, as lines of the protocol. */
    static final class Pipe extends OutputStream {
        private final String kind;
        private final Call call;

        Pipe(String kind, Call call) {
            this.kind = kind;
            this.call = call;
        }

        @Override
        public void write(int b) {
            write(new byte[] {(byte) b}, 0, 1);
        }

        @Override
        public void write(byte[] b, int off, int len) {
            if (call.ended()) {
                return;
            }
            say(kind + " " + call.id + " =" + Base64.getEncoder().encodeToString(java.util.Arrays.copyOfRange(b, off, off + len)));
        }
    }

    static final PrintStream REPLIES = System.out;
    static final PrintStream ERRORS = System.err;
    // Threads that a tool starts inherit its call.
    static final InheritableThreadLocal<Call> CURRENT = new InheritableThreadLocal<>();
    static final Map<String, Call> CALLS = new ConcurrentHashMap<>();

    static void say(String line) {
        synchronized (REPLIES) {
            REPLIES.println(line);
            REPLIES.flush();
        }
    }

    /** A stream that writes to the call of the thread that prints. */
    static PrintStream dispatch(boolean err) {
        return new PrintStream(new OutputStream() {
            private PrintStream target() {
                Call c = CURRENT.get();
                if (c == null) {
                    return ERRORS;
                }
                return err ? c.err : c.out;
            }

            @Override
            public void write(int b) {
                target().write(b);
            }

            @Override
            public void write(byte[] b, int off, int len) {
                target().write(b, off, len);
            }
        }, true, StandardCharsets.UTF_8);
    }

    static byte[] decode(String s) {
        return Base64.getDecoder().decode(s.substring(1));
    }

    public static void main(String[] args) throws IOException {
        System.setOut(dispatch(false));
        System.setErr(dispatch(true));
        System.setIn(new InputStream() {
            @Override
            public int read() throws IOException {
                return CURRENT.get().in.read();
            }

            @Override
            public int read(byte[] b, int off, int len) throws IOException {
                return CURRENT.get().in.read(b, off, len);
            }
        });
        Exit.Procedure trap = (status, message) -> {
            if (message != null) {
                System.err.println(message);
            }
            CURRENT.get().exit(status);
            throw new Exited();
        };
        Exit.setExitProcedure(trap);
        Exit.setHaltProcedure(trap);
        Exit.setShutdownHookAdder((name, hook) -> {
            Call c = CURRENT.get();
            synchronized (c) {
                c.hooks.add(hook);
            }
        });
        BufferedReader commands = new BufferedReader(new InputStreamReader(new java.io.FileInputStream(java.io.FileDescriptor.in), StandardCharsets.UTF_8));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            String[] words = line.split(" ");
            if (words[0].equals("stop")) {
                Call c = CALLS.get(words[1]);
                if (c != null) {
                    new Thread(() -> runHooks(c), "stop-" + c.id).start();
                }
                continue;
            }
            Call c = new Call(words[1], decode(words[3]));
            String[] rest = new String[words.length - 4];
            for (int i = 0; i < rest.length; i++) {
                rest[i] = new String(decode(words[i + 4]), StandardCharsets.UTF_8);
            }
            CALLS.put(c.id, c);
            new Thread(() -> run(c, words[2], rest), "call-" + c.id).start();
        }
        Runtime.getRuntime().halt(0);
    }

    static void runHooks(Call c) {
        CURRENT.set(c);
        for (Runnable hook : c.takeHooks()) {
            hook.run();
        }
    }

    static void run(Call c, String name, String[] args) {
        CURRENT.set(c);
        try {
            // Why: some tools count in static variables; each call gets the package of its tool afresh.
            ClassLoader fresh = new Fresh(name, ToolRunner.class.getClassLoader());
            Thread.currentThread().setContextClassLoader(fresh);
            Method main = fresh.loadClass(name).getMethod("main", String[].class);
            main.invoke(null, (Object) args);
            c.exit(0);
        } catch (InvocationTargetException e) {
            if (!(e.getCause() instanceof Exited)) {
                e.getCause().printStackTrace(c.err);
                c.exit(1);
            }
        } catch (Throwable e) {
            e.printStackTrace(c.err);
            c.exit(1);
        }
        try {
            runHooks(c);
        } catch (Throwable e) {
            if (!(e instanceof Exited)) {
                e.printStackTrace(c.err);
            }
        }
        CALLS.remove(c.id);
        c.out.flush();
        c.err.flush();
        say("exit " + c.id + " " + c.code);
    }

    /** Loads the classes of one package anew, everything else once. */
    static final class Fresh extends ClassLoader {
        private final String folder; // of the package, with a dot at its end

        Fresh(String name, ClassLoader parent) {
            super(parent);
            this.folder = name.substring(0, name.lastIndexOf('.') + 1);
        }

        @Override
        protected Class<?> loadClass(String wanted, boolean resolve) throws ClassNotFoundException {
            if (!wanted.startsWith(folder) || wanted.indexOf('.', folder.length()) >= 0) {
                return super.loadClass(wanted, resolve);
            }
            synchronized (getClassLoadingLock(wanted)) {
                Class<?> c = findLoadedClass(wanted);
                if (c != null) {
                    return c;
                }
                try (InputStream in = getParent().getResourceAsStream(wanted.replace('.', '/') + ".class")) {
                    if (in == null) {
                        throw new ClassNotFoundException(wanted);
                    }
                    byte[] b = in.readAllBytes();
                    return defineClass(wanted, b, 0, b.length);
                } catch (IOException e) {
                    throw new ClassNotFoundException(wanted, e);
                }
            }
        }
    }
}
