package golden

import "testing"

func TestFirstDifference(t *testing.T) {
	for _, tt := range []struct {
		got, want string
		n         int
		g, w      string
		differ    bool
	}{
		{"a\nb\n", "a\nb\n", 0, "", "", false},
		{"", "", 0, "", "", false},
		{"a\nb\n", "a\nc\n", 2, "b", "c", true},
		{"a\nb", "a\nb\n", 3, "(the end)", "", true},
		{"a\nb\nc", "a\nb", 3, "c", "(the end)", true},
	} {
		n, g, w, differ := first(tt.got, tt.want)
		if n != tt.n || g != tt.g || w != tt.w || differ != tt.differ {
			t.Errorf("first(%q, %q) = %d, %q, %q, %v", tt.got, tt.want, n, g, w, differ)
		}
	}
}
