package result

import "testing"

func TestWholeSaysHowMuchThereIs(t *testing.T) {
	for _, c := range []struct {
		add  func(w *Writer)
		mask Mask
		want string
		cut  int
	}{
		{func(w *Writer) { w.Whole(9); w.Text("abcde") }, Unmasked, `["abcd…","x"]`, 1},
		{func(w *Writer) { w.Whole(9); w.Text("abcd\xc3") }, Unmasked, `["abcd…","x"]`, 1},
		{func(w *Writer) { w.Whole(9); w.JSON([]byte("12345")) }, Unmasked, `["1234…","x"]`, 1},
		{func(w *Writer) { w.Whole(9); w.Bytes([]byte("ab")) }, Unmasked, `[{"$bytes":9,"base64":"YWI="},"x"]`, 1},
		{func(w *Writer) { w.Whole(9); w.Text("abcde") }, MaskNull, `[null,"x"]`, 0},
		{func(w *Writer) { w.Whole(9); w.Text("abcde") }, MaskPartial, `["a***","x"]`, 0},
		{func(w *Writer) { w.Whole(2); w.Text("ab") }, Unmasked, `["ab","x"]`, 0},
	} {
		w := NewWriter(Limits{Rows: 1, Bytes: 1000, Cell: 100}, nil)
		w.SetColumns([]Column{{Name: "a", Mask: c.mask}, {Name: "b"}})
		c.add(w)
		w.Text("x") // nothing is left of it for the next value
		w.EndRow()
		if p := w.Page(); string(p.Rows) != c.want || p.Cut != c.cut {
			t.Errorf("got %s with %d cut, want %s with %d", p.Rows, p.Cut, c.want, c.cut)
		}
	}
}
