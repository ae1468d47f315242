// Writes one stack trace of each kind, each behind a line `== name`, and dies of the last one.

import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.List;
import java.util.concurrent.CompletableFuture;

class Trace {
  static class OwnException extends Exception {
    OwnException(String message, Throwable cause) {
      super(message, cause);
    }
  }

  static class Resource implements AutoCloseable {
    public void close() throws IOException {
      throw new IOException("not closed", new IllegalStateException("why not"));
    }
  }

  interface Call {
    void run() throws Throwable;
  }

  static void inner() {
    throw new IllegalArgumentException("the cause");
  }

  static void caused() throws OwnException {
    try {
      inner();
    } catch (RuntimeException cause) {
      throw new OwnException("the effect", cause);
    }
  }

  static void thrice() {
    try {
      caused();
    } catch (OwnException cause) {
      throw new IllegalStateException(cause);
    }
  }

  static void suppressed() throws Exception {
    try (Resource one = new Resource(); Resource other = new Resource()) {
      caused();
    }
  }

  static void circular() {
    RuntimeException one = new RuntimeException("one");
    RuntimeException other = new RuntimeException("other", one);
    one.initCause(other);
    throw one;
  }

  static int deep(int n) {
    return n == 0 ? List.of(1).get(2) : deep(n - 1) + 1;
  }

  static int endless(int n) {
    return endless(n + 1) + 1;
  }

  static void lines() {
    throw new IllegalStateException("2 fields are wrong\n  name: missing\n  age: no number");
  }

  static void loose() {
    throw new IllegalStateException("first\nsecond\n\nlast");
  }

  static void bare() {
    throw new NullPointerException();
  }

  static void mark(String name) {
    System.err.println("== " + name);
  }

  static Throwable errorOf(Call call) {
    try {
      call.run();
    } catch (Throwable error) {
      return error;
    }
    return null;
  }

  static void shown(String name, Call call) {
    mark(name);
    errorOf(call).printStackTrace();
  }

  static void logged(String name, String front, Call call) {
    mark(name);
    StringWriter trace = new StringWriter();
    errorOf(call).printStackTrace(new PrintWriter(trace));
    System.err.print(front + trace);
  }

  public static void main(String[] args) throws Exception {
    String time = "2026-01-01 00:00:00.000";
    shown("one", Trace::inner);
    shown("caused", Trace::caused);
    shown("thrice", Trace::thrice);
    shown("suppressed", Trace::suppressed);
    shown("circular", Trace::circular);
    shown("deep", () -> deep(30));
    shown("endless", () -> endless(0));
    shown("lambda", () -> List.of(1).forEach((one) -> inner()));
    shown("future", () -> CompletableFuture.runAsync(Trace::inner).get());
    shown("class", () -> Class.forName("none.Such"));
    shown("cast", () -> System.err.println((String) (Object) 1));
    shown("lines", Trace::lines);
    shown("loose message", Trace::loose);
    shown("bare", Trace::bare);
    logged("logged by Spring", time + " ERROR 1 --- [main] app.Main : it failed\n\n", Trace::thrice);
    logged("logged by Logback", time + " [main] ERROR app.Main - it failed\n", Trace::suppressed);
    logged("logged by java.util", "SEVERE: it failed\n", Trace::caused);
    logged("a line with the time", time + " ERROR app.Main: ", Trace::caused);
    mark("thread");
    Thread thread = new Thread(Trace::thrice, "worker 1");
    thread.start();
    thread.join();
    mark("dumped");
    Thread.dumpStack();
    mark("dies");
    thrice();
  }
}
