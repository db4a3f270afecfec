// Debezium's engine without a sink: every change becomes JSON, is handed over, and is confirmed.
//
// Usage: java -cp 'libs/*' Receive.java <properties> <topic of the last row>, with the mode in the first argument:
//   count  says `end <changes>` when the last row has come
//   tell   prints each change as it comes
// It ends when its standard input does.

import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.format.Json;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

public class Receive implements DebeziumEngine.ChangeConsumer<ChangeEvent<String, String>> {
  private final PrintStream out = new PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), false, StandardCharsets.UTF_8);
  private final boolean tells;
  private final String last;
  private long changes;

  private Receive(boolean tells, String last) {
    this.tells = tells;
    this.last = last;
  }

  @Override
  public void handleBatch(
      List<ChangeEvent<String, String>> events,
      DebeziumEngine.RecordCommitter<ChangeEvent<String, String>> committer)
      throws InterruptedException {
    for (ChangeEvent<String, String> event : events) {
      changes += 1;
      if (tells) {
        out.println(event.value());
      } else if (event.destination().equals(last)) {
        out.println("end " + changes);
      }
      committer.markProcessed(event);
    }
    out.flush();
    committer.markBatchFinished();
  }

  public static void main(String[] args) throws Exception {
    Properties properties = new Properties();
    try (var reader = Files.newBufferedReader(Path.of(args[1]))) {
      properties.load(reader);
    }
    Receive receive = new Receive(args[0].equals("tell"), args[2]);
    DebeziumEngine<ChangeEvent<String, String>> engine =
        DebeziumEngine.create(Json.class)
            .using(properties)
            .using(
                (success, message, error) -> {
                  if (!success) {
                    System.err.println("the engine ended: " + message);
                    if (error != null) {
                      error.printStackTrace();
                    }
                    System.exit(1);
                  }
                })
            .notifying(receive)
            .build();
    ExecutorService executor = Executors.newSingleThreadExecutor();
    executor.execute(engine);
    while (System.in.read() >= 0) {
      // Whoever started it has nothing to say.
    }
    engine.close();
    executor.shutdown();
  }
}
