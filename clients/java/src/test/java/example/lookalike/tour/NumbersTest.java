package example.lookalike.tour;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;

class NumbersTest {
  /** As JSON.stringify and encoding/json write them. */
  @Test
  void numbersAreWrittenAsInOtherLanguages() {
    assertEquals("0", Numbers.text(0.0));
    assertEquals("0", Numbers.text(-0.0));
    assertEquals("1", Numbers.text(1.0));
    assertEquals("-0.25", Numbers.text(-0.25));
    assertEquals("100", Numbers.text(100.0));
    assertEquals("0.00001", Numbers.text(1e-5));
    assertEquals("1.5e-7", Numbers.text(1.5e-7));
    assertEquals("1e-7", Numbers.text(1e-7));
    assertEquals("1e+21", Numbers.text(1e21));
  }
}
