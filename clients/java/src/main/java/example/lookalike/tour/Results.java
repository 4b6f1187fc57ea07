package example.lookalike.tour;

import example.lookalike.v1.EmbedStreamResponse;
import example.lookalike.v1.GetModelResponse;
import example.lookalike.v1.Metric;
import example.lookalike.v1.Product;
import example.lookalike.v1.SearchResponse;
import java.util.List;

/** The results as the tour prints them: each record is a JSON object with its components in this order. */
final class Results {
  private Results() {}

  record FailedStep(String step, CallError error) {}

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

  /** The result for one image of the stream. */
  sealed interface Item permits EmbeddedItem, FailedItem {
    String id();
  }

  record EmbeddedItem(String id, int dim, double norm, List<Double> first) implements Item {}

  record FailedItem(String id, CallError error) implements Item {}

  static Model model(GetModelResponse response) {
    // a newer server may know more metrics than this client
    boolean known = response.getMetric() != Metric.UNRECOGNIZED;
    return new Model(
        response.getName(),
        response.getBackbone(),
        response.getWeights(),
        Integer.toUnsignedLong(response.getDim()),
        known ? response.getMetric().name() : Integer.toString(response.getMetricValue()),
        Integer.toUnsignedLong(response.getInputWidth()),
        Integer.toUnsignedLong(response.getInputHeight()),
        response.getPrecision(),
        response.getDigest());
  }

  static Search search(SearchResponse response) {
    List<Neighbor> neighbors = response.getNeighborsList().stream().map(Results::neighbor).toList();
    return new Search(neighbors, response.getStats().getModelDigest());
  }

  private static Neighbor neighbor(example.lookalike.v1.Neighbor response) {
    Product product = response.getProduct();
    return new Neighbor(
        product.getId(),
        product.getCategory(),
        product.getTitle(),
        response.getDistance(),
        response.getSimilarity(),
        Integer.toUnsignedLong(response.getImageIndex()));
  }

  static Item item(EmbedStreamResponse response) {
    if (response.hasStatus()) {
      return new FailedItem(response.getId(), CallError.of(response.getStatus()));
    }
    List<Double> values = response.getEmbedding().getValuesList().stream().map(Float::doubleValue).toList();
    double squares = 0;
    for (double value : values) { // one after the other, as in other languages: DoubleStream.sum rounds otherwise
      squares += value * value;
    }
    return new EmbeddedItem(response.getId(), values.size(), Math.sqrt(squares), values.subList(0, Math.min(4, values.size())));
  }
}
