package netconf

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/wardnet/wardnet/edge/foreign"
)

var _ foreign.Texter = (*Box)(nil)

// Text implements foreign.Texter: the whole running datastore as the account may
// read it, an element a line. "" where the device does not give it whole; complete
// is always true, for an answer that is cut off is an error.
func (b *Box) Text(ctx context.Context) (text string, complete bool, err error) {
	err = b.with(ctx, func(s *session) error {
		_, doc, err := s.exchange(ctx, getAll{Source: running})
		if errors.As(err, new(rpcError)) {
			return nil
		}
		if err == nil {
			text, err = lines([]byte(doc))
		}
		return err
	})
	if err != nil {
		return "", false, fmt.Errorf("get-config: %w", err)
	}
	return text, true, nil
}

// lines is what is inside the data element of a reply, as it was written but for
// the blanks between elements: each begins a line.
func lines(doc []byte) (string, error) {
	dec := xml.NewDecoder(bytes.NewReader(doc))
	var out strings.Builder
	depth, inside, closed := 0, -1, false
	for {
		from := dec.InputOffset()
		token, err := dec.RawToken()
		if errors.Is(err, io.EOF) {
			return out.String(), nil
		}
		if err != nil {
			return "", fmt.Errorf("%w: %w", errGarbled, err)
		}
		raw := doc[from:dec.InputOffset()]
		switch t := token.(type) {
		case xml.StartElement:
			if inside >= 0 {
				if out.Len() > 0 {
					out.WriteByte('\n')
				}
				out.WriteString(strings.Repeat(" ", depth-inside))
				out.Write(raw)
			} else if depth == 1 && t.Name.Local == "data" {
				inside = depth + 1
			}
			depth++
			closed = false
		case xml.EndElement:
			depth--
			if inside >= 0 && depth < inside {
				out.WriteByte('\n')
				inside = -1
				continue
			}
			if inside >= 0 {
				if closed && len(raw) > 0 { // what is written <a/> ends with its start
					out.WriteString("\n" + strings.Repeat(" ", depth-inside))
				}
				out.Write(raw)
			}
			closed = true
		case xml.CharData:
			if inside >= 0 && len(bytes.TrimSpace(t)) > 0 {
				out.Write(raw)
			}
		}
	}
}
