package enrol

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// plainBundle is a Bundle without its methods.
type plainBundle Bundle

// bundleFields are the JSON names we know, and those the signature is not over.
var bundleFields = func() map[string]bool {
	names := map[string]bool{}
	for f := range reflect.TypeFor[Bundle]().Fields() {
		if tag := f.Tag.Get("json"); tag != "" {
			name, _, _ := strings.Cut(tag, ",")
			names[name] = true
		}
	}
	return names
}()

// UnmarshalJSON keeps what a newer controller signed beside the fields we know,
// as it stands in the file, so that the signature is checked over all of it.
func (b *Bundle) UnmarshalJSON(text []byte) error {
	var p plainBundle
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	*b = Bundle(p)
	for name := range maps.Keys(all) {
		if !bundleFields[name] {
			signed, err := withoutSigner(text)
			b.newer = signed
			return err
		}
	}
	return nil
}

// signed is the JSON that the signature covers. What a newer controller signed
// counts only while the fields we know are still as they came with it.
func (b Bundle) signed() ([]byte, error) {
	newer := b.newer
	b.Signer, b.Signature, b.newer = "", nil, ""
	own, err := json.Marshal(plainBundle(b))
	if err != nil || newer == "" {
		return own, err
	}
	var came plainBundle
	if err := json.Unmarshal([]byte(newer), &came); err != nil {
		return nil, err
	}
	again, err := json.Marshal(came)
	if err != nil || !bytes.Equal(again, own) {
		return own, err
	}
	return []byte(newer), nil
}

// withoutSigner is the object text, compact and in its order, without the
// members signer and signature.
func withoutSigner(text []byte) (string, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	if _, err := d.Token(); err != nil {
		return "", err
	}
	var members []string
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return "", err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return "", err
		}
		if slices.Contains([]string{"signer", "signature"}, fmt.Sprint(name)) {
			continue
		}
		var out bytes.Buffer
		if err := json.Compact(&out, value); err != nil {
			return "", err
		}
		key, err := json.Marshal(name)
		if err != nil {
			return "", err
		}
		members = append(members, string(key)+":"+out.String())
	}
	return "{" + strings.Join(members, ",") + "}", nil
}
