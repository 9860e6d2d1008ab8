package netconf

import (
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
)

// empty is an element that is there or not.
type empty struct{}

// bare is an operation without parameters, by its name. It is sent as an empty
// element tag: to <discard-changes></discard-changes> netconfd (yuma123 2.13)
// answers ok and does nothing.
type bare string

const (
	discard      bare = "discard-changes"
	closeSession bare = "close-session"
	commitNow    bare = "commit"
)

// The operations of RFC 6241 that we use with parameters, each marshalled as the
// content of an rpc element.
type (
	datastore struct {
		Running   *empty `xml:"running"`
		Candidate *empty `xml:"candidate"`
	}
	lock struct {
		XMLName xml.Name  `xml:"lock"`
		Target  datastore `xml:"target"`
	}
	unlock struct {
		XMLName xml.Name  `xml:"unlock"`
		Target  datastore `xml:"target"`
	}
	killSession struct {
		XMLName xml.Name `xml:"kill-session"`
		ID      uint64   `xml:"session-id"`
	}
	filter struct {
		Type   string `xml:"type,attr"`
		Router *node  `xml:"https://wardnet.dev/yang/wardnet-router router"`
		States *node  `xml:"https://wardnet.dev/yang/wardnet-router sessions"`
	}
	node      struct{}
	getConfig struct {
		XMLName xml.Name  `xml:"get-config"`
		Source  datastore `xml:"source"`
		Filter  filter    `xml:"filter"`
	}
	getAll struct {
		XMLName xml.Name  `xml:"get-config"`
		Source  datastore `xml:"source"`
	}
	get struct {
		XMLName xml.Name `xml:"get"`
		Filter  filter   `xml:"filter"`
	}
	editConfig struct {
		XMLName xml.Name  `xml:"edit-config"`
		Target  datastore `xml:"target"`
		// Default is what happens to what carries no operation (§7.2).
		Default string `xml:"default-operation"`
		Test    string `xml:"test-option,omitempty"`
		Config  struct {
			Router router
		} `xml:"config"`
	}
	commitConfig struct {
		XMLName   xml.Name `xml:"commit"`
		Confirmed *empty   `xml:"confirmed"`
		Timeout   int64    `xml:"confirm-timeout,omitempty"` // seconds
		Persist   string   `xml:"persist,omitempty"`
		PersistID string   `xml:"persist-id,omitempty"`
	}
	cancelCommit struct {
		XMLName   xml.Name `xml:"cancel-commit"`
		PersistID string   `xml:"persist-id,omitempty"`
	}
)

var (
	running   = datastore{Running: &empty{}}
	candidate = datastore{Candidate: &empty{}}
)

func (d datastore) String() string {
	if d.Running != nil {
		return "running"
	}
	return "candidate"
}

// marshal is op as the content of an rpc element.
func marshal(op any) (string, error) {
	if name, ok := op.(bare); ok {
		return "<" + string(name) + "/>", nil
	}
	b, err := xml.Marshal(op)
	return string(b), err
}

// reply is the answer to an operation.
type reply struct {
	XMLName xml.Name   `xml:"urn:ietf:params:xml:ns:netconf:base:1.0 rpc-reply"`
	OK      *empty     `xml:"ok"`
	Errors  []rpcError `xml:"rpc-error"`
	Data    *struct {
		Router *router `xml:"https://wardnet.dev/yang/wardnet-router router"`
		States *states `xml:"https://wardnet.dev/yang/wardnet-router sessions"`
	} `xml:"data"`
}

// states is container sessions of the model.
type states struct {
	Sessions []struct {
		Tunnel string `xml:"tunnel"`
		Up     bool   `xml:"up"`
		BFD    bool   `xml:"bfd"`
		BGP    bool   `xml:"bgp"`
	} `xml:"session"`
}

// rpcError is one error of a reply (§4.3).
type rpcError struct {
	Type     string `xml:"error-type"`
	Tag      string `xml:"error-tag"`
	Severity string `xml:"error-severity"`
	Path     string `xml:"error-path"`
	Message  string `xml:"error-message"`
	Info     struct {
		SessionID uint64 `xml:"session-id"`
		Element   string `xml:"bad-element"`
	} `xml:"error-info"`
}

func (e rpcError) Error() string {
	parts := []string{e.Tag}
	if m := strings.Join(strings.Fields(e.Message), " "); m != "" {
		parts = append(parts, m)
	}
	if e.Info.Element != "" {
		parts = append(parts, "element "+e.Info.Element)
	}
	if p := strings.Join(strings.Fields(e.Path), ""); p != "" {
		parts = append(parts, "at "+p)
	}
	return strings.Join(parts, ": ")
}

// errGarbled: a device answered what is no NETCONF.
var errGarbled = errors.New("the answer cannot be read")

// parseReply reads the answer to an operation. A well-formed answer that is
// neither data nor ok nor an error is none.
func parseReply(doc []byte) (reply, error) {
	var r reply
	if err := parse(doc, &r); err != nil {
		return reply{}, fmt.Errorf("%w: %w; is it cut off, or not NETCONF?", errGarbled, err)
	}
	for _, e := range r.Errors {
		if e.Severity != "warning" {
			return reply{}, e
		}
	}
	if r.OK == nil && r.Data == nil {
		return reply{}, fmt.Errorf("%w: it is neither ok nor data nor an error", errGarbled)
	}
	return r, nil
}
