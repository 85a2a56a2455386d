import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.tensorflow.Result;
import org.tensorflow.SavedModelBundle;
import org.tensorflow.Tensor;
import org.tensorflow.TensorFlow;
import org.tensorflow.ndarray.Shape;
import org.tensorflow.ndarray.buffer.ByteDataBuffer;
import org.tensorflow.ndarray.buffer.DataBuffers;
import org.tensorflow.types.TFloat32;
import org.tensorflow.types.TInt32;
import org.tensorflow.types.TInt64;
import org.tensorflow.types.family.TType;

/**
 * Scores requests with an exported model, without Python and without a server:
 *
 * <pre>java -cp 'jars/*' Score.java MODEL REQUESTS</pre>
 *
 * Each folder below REQUESTS is a request: {@code inputs.txt} holds a line {@code name type dimension ...} for each
 * input of serving_default, and {@code name.bin} its values, little-endian. The probabilities (float32) are written
 * beside them, to {@code probability.bin}.
 */
public class Score {
  private static final Map<String, Class<? extends TType>> TYPES =
      Map.of("int32", TInt32.class, "int64", TInt64.class, "float32", TFloat32.class);

  public static void main(String[] arguments) throws IOException {
    List<Path> requests;
    try (Stream<Path> found = Files.list(Path.of(arguments[1]))) {
      requests = found.sorted().collect(Collectors.toList());
    }
    try (SavedModelBundle model = SavedModelBundle.load(arguments[0], "serve")) {
      for (Path request : requests) {
        Map<String, Tensor> inputs = read(request);
        try (Result outputs = model.function("serving_default").call(inputs)) {
          ByteDataBuffer scores = outputs.get("probability").get().asRawTensor().data();
          byte[] bytes = new byte[(int) scores.size()];
          scores.read(bytes);
          Files.write(request.resolve("probability.bin"), bytes);
        }
        inputs.values().forEach(Tensor::close);
      }
    }
    System.out.println("TensorFlow " + TensorFlow.version() + ", " + requests.size() + " requests");
  }

  private static Map<String, Tensor> read(Path request) throws IOException {
    Map<String, Tensor> inputs = new LinkedHashMap<>();
    for (String line : Files.readAllLines(request.resolve("inputs.txt"))) {
      String[] parts = line.split(" ");
      long[] dimensions = Stream.of(parts).skip(2).mapToLong(Long::parseLong).toArray();
      byte[] values = Files.readAllBytes(request.resolve(parts[0] + ".bin"));
      inputs.put(parts[0], Tensor.of(TYPES.get(parts[1]), Shape.of(dimensions), DataBuffers.of(values)));
    }
    return inputs;
  }
}
