package inventory

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// MaxDocument is the largest document accepted, in bytes (32 MiB; an inventory
// of all 3,321 units of the country takes about 5).
const MaxDocument = 32 << 20

// readText reads a whole UTF-8 document without its byte order mark. A
// document that is too large is refused after [MaxDocument] bytes; one in
// another encoding is refused with the name of what it seems to be in.
func readText(name string, r io.Reader) ([]byte, *Fault, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxDocument+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", name, err)
	}
	refuse := func(line int, format string, args ...any) ([]byte, *Fault, error) {
		return nil, &Fault{File: name, Line: line, Text: fmt.Sprintf(format, args...)}, nil
	}
	if len(data) > MaxDocument {
		return refuse(0, "the file is larger than %d MiB; split it into one CSV file per noun, or check that it is the right file", MaxDocument>>20)
	}
	const save = "save it as UTF-8 (in Excel: \"CSV UTF-8\") and try again"
	switch {
	case bytes.HasPrefix(data, []byte{0xff, 0xfe, 0, 0}), bytes.HasPrefix(data, []byte{0, 0, 0xfe, 0xff}):
		return refuse(1, "the file is in UTF-32; %s", save)
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}), bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		return refuse(1, "the file is in UTF-16; %s", save)
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if at := bytes.IndexByte(data, 0); at >= 0 {
		line := 1 + bytes.Count(data[:at], []byte("\n"))
		// Every other byte of mostly Latin UTF-16 is zero.
		if head := data[:min(len(data), 4096)]; bytes.Count(head, []byte{0})*3 > len(head) {
			return refuse(1, "the file is in UTF-16 without a byte order mark; %s", save)
		}
		return refuse(line, "the file holds a zero byte: it is not a text file")
	}
	if at := invalidUTF8(data); at >= 0 {
		return refuse(1+bytes.Count(data[:at], []byte("\n")), "the file is not UTF-8; it looks like %s; %s", codePage(data), save)
	}
	return data, nil, nil
}

// invalidUTF8 is the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
	return -1
}

// codePage guesses the single-byte encoding of a text that is not UTF-8.
// Windows-1258 writes a Vietnamese tone as a byte of its own after the vowel
// (0xCC grave, 0xD2 hook, 0xDE tilde, 0xEC acute, 0xF2 dot below), where
// Windows-1252 has capital or accented letters that rarely follow a vowel.
func codePage(data []byte) string {
	tones, high := 0, 0
	for i, b := range data {
		if b < 0x80 {
			continue
		}
		high++
		if i > 0 && bytes.IndexByte([]byte{0xcc, 0xd2, 0xde, 0xec, 0xf2}, b) >= 0 &&
			bytes.IndexByte([]byte("aeiouyAEIOUY\xe2\xea\xf4\xe3\xf5\xfd\xc2\xca\xd4\xc3\xd5\xdd"), data[i-1]) >= 0 {
			tones++
		}
	}
	if tones*8 >= high {
		return "Windows-1258 (Vietnamese)"
	}
	return "Windows-1252 or another single-byte encoding"
}

// asError turns the outcome of readText into an error.
func asError(f *Fault, err error) error {
	if f != nil {
		err = errors.Join(err, Faults{*f})
	}
	return err
}
