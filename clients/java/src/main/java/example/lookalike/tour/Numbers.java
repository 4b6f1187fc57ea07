package example.lookalike.tour;

import com.google.gson.TypeAdapter;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonWriter;
import java.io.IOException;
import java.math.BigDecimal;

/** Writes numbers as other languages do: 0 and not 0.0, 0.00001 and not 1.0E-5. */
final class Numbers extends TypeAdapter<Double> {
  @Override
  public void write(JsonWriter out, Double value) throws IOException {
    out.jsonValue(text(value));
  }

  @Override
  public Double read(JsonReader in) {
    throw new UnsupportedOperationException("the tour reads no JSON");
  }

  static String text(double value) {
    double size = Math.abs(value);
    if (size >= 1e-6 && size < 1e21) {
      return new BigDecimal(Double.toString(value)).stripTrailingZeros().toPlainString();
    }
    return value == 0 ? "0" : Double.toString(value).replace(".0E", "E").replace("E-", "e-").replace("E", "e+");
  }
}
