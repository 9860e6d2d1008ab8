package strongswan

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/wardnet/wardnet/edge/render"
)

// Element types of a VICI message (strongSwan, src/libcharon/plugins/vici,
// README.md, "Message format").
const (
	sectionStart = 1
	sectionEnd   = 2
	keyValue     = 3
	listStart    = 4
	listItem     = 5
	listEnd      = 6
)

var errMessage = errors.New("charon sent a damaged message")

// message is a VICI message under construction.
type message struct{ bytes.Buffer }

func (m *message) name(kind byte, name string) {
	m.WriteByte(kind)
	m.WriteByte(byte(len(name)))
	m.WriteString(name)
}

func (m *message) text(v []byte) {
	_ = binary.Write(m, binary.BigEndian, uint16(len(v))) // a buffer takes all
	m.Write(v)
}

// set adds a value of at most 64 KiB.
func (m *message) set(key, value string) *message {
	m.name(keyValue, key)
	m.text([]byte(value))
	return m
}

func (m *message) list(key string, items ...string) *message {
	m.name(listStart, key)
	for _, v := range items {
		m.WriteByte(listItem)
		m.text([]byte(v))
	}
	m.WriteByte(listEnd)
	return m
}

// section adds s. The issuers of devices' certificates, a file's name in s, are
// put in place.
func (m *message) section(s render.IPsecSection, issuers []string) *message {
	m.name(sectionStart, s.Name)
	for _, v := range s.Values {
		switch {
		case v.Key == "cacerts":
			m.list(v.Key, issuers...)
		case v.List:
			m.list(v.Key, v.Items...)
		default:
			m.set(v.Key, v.Items[0])
		}
	}
	for _, sub := range s.Sections {
		m.section(sub, issuers)
	}
	m.WriteByte(sectionEnd)
	return m
}

// section is a message, or a section of one, as received.
type section struct {
	name     string
	values   map[string]string
	lists    map[string][]string
	sections []*section // in order
}

func (s *section) sub(name string) *section {
	for _, x := range s.sections {
		if x.name == name {
			return x
		}
	}
	return &section{}
}

// parse reads a message.
func parse(b []byte) (*section, error) {
	root := &section{values: map[string]string{}, lists: map[string][]string{}}
	stack := []*section{root}
	list := ""
	inList := false
	for r := (reader{b}); len(r.b) > 0; {
		top := stack[len(stack)-1]
		kind := r.take(1)[0]
		if inList && kind != listItem && kind != listEnd {
			return nil, errMessage
		}
		switch kind {
		case sectionStart:
			s := &section{name: r.name(), values: map[string]string{}, lists: map[string][]string{}}
			top.sections = append(top.sections, s)
			stack = append(stack, s)
		case sectionEnd:
			if len(stack) == 1 {
				return nil, errMessage
			}
			stack = stack[:len(stack)-1]
		case keyValue:
			k := r.name()
			top.values[k] = r.text()
		case listStart:
			list, inList = r.name(), true
			top.lists[list] = nil
		case listItem:
			if !inList {
				return nil, errMessage
			}
			top.lists[list] = append(top.lists[list], r.text())
		case listEnd:
			inList = false
		default:
			return nil, errMessage
		}
		if r.b == nil {
			return nil, errMessage
		}
	}
	if len(stack) != 1 || inList {
		return nil, errMessage
	}
	return root, nil
}

// reader takes pieces off a message; past its end b is nil.
type reader struct{ b []byte }

func (r *reader) take(n int) []byte {
	if r.b == nil || n > len(r.b) {
		r.b = nil
		return make([]byte, n)
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) name() string { return string(r.take(int(r.take(1)[0]))) }

func (r *reader) text() string {
	return string(r.take(int(binary.BigEndian.Uint16(r.take(2)))))
}
