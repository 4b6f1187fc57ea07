package example.lookalike.tour;

import example.lookalike.v1.EmbedStreamResponse;
import example.lookalike.v1.GetModelResponse;
import example.lookalike.v1.Metric;
import example.lookalike.v1.Product;
import example.lookalike.v1.SearchResponse;
import java.util.List;

/** The server's answers as the tour prints them: each record is a JSON object with its components in this order. */
final class Answers {
  private Answers() {}

  record Failed(String step, Refusal error) {}

  record Model(
      String name,
      String backbone,
      String weights,
      long dim,
      String metric,
      long inputWidth,
      long inputHeight,
      String precision,
      String digest) {}

  record Search(List<Neighbor> neighbors, String modelDigest) {}

  record Neighbor(
      String id, String category, String title, double distance, double similarity, long imageIndex) {}

  /** What became of one photo of the stream. */
  sealed interface Item permits Embedded, Refused {
    String id();
  }

  record Embedded(String id, int dim, double norm, List<Double> first) implements Item {}

  record Refused(String id, Refusal error) implements Item {}

  static Model model(GetModelResponse answer) {
    // a newer server may know more metrics than this client
    boolean known = answer.getMetric() != Metric.UNRECOGNIZED;
    return new Model(
        answer.getName(),
        answer.getBackbone(),
        answer.getWeights(),
        Integer.toUnsignedLong(answer.getDim()),
        known ? answer.getMetric().name() : Integer.toString(answer.getMetricValue()),
        Integer.toUnsignedLong(answer.getInputWidth()),
        Integer.toUnsignedLong(answer.getInputHeight()),
        answer.getPrecision(),
        answer.getDigest());
  }

  static Search search(SearchResponse answer) {
    List<Neighbor> neighbors = answer.getNeighborsList().stream().map(Answers::neighbor).toList();
    return new Search(neighbors, answer.getReceipt().getModelDigest());
  }

  private static Neighbor neighbor(example.lookalike.v1.Neighbor answer) {
    Product product = answer.getProduct();
    return new Neighbor(
        product.getId(),
        product.getCategory(),
        product.getTitle(),
        answer.getDistance(),
        answer.getSimilarity(),
        Integer.toUnsignedLong(answer.getImageIndex()));
  }

  static Item item(EmbedStreamResponse answer) {
    if (answer.hasStatus()) {
      return new Refused(answer.getId(), Refusal.of(answer.getStatus()));
    }
    List<Double> values = answer.getEmbedding().getValuesList().stream().map(Float::doubleValue).toList();
    double norm = Math.sqrt(values.stream().mapToDouble(value -> value * value).sum());
    return new Embedded(answer.getId(), values.size(), norm, values.subList(0, Math.min(4, values.size())));
  }
}
