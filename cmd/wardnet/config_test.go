package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Every key of the configuration is in docs/configuration.md with its default,
// and nothing else is.
func TestConfigurationIsDocumented(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	written := map[string]string{} // default by key
	for line := range strings.Lines(string(raw)) {
		if cells := strings.Split(line, "|"); len(cells) == 5 && strings.HasPrefix(line, "| `") {
			written[strings.Trim(cells[1], " `")] = strings.Trim(cells[2], " `")
		}
	}
	keys := map[string]any{}
	leaves(reflect.ValueOf(Config{}.withDefaults()), "", keys)
	const perCore = "100` for each processor"
	for key, v := range keys {
		doc, ok := written[key]
		if !ok {
			t.Errorf("%s is not in the list", key)
			continue
		}
		delete(written, key)
		want := fmt.Sprint(v)
		switch x := v.(type) {
		case time.Duration:
			d, err := time.ParseDuration(doc)
			if err != nil || d != x {
				t.Errorf("%s: the list says %q, it is %s", key, doc, x)
			}
			continue
		case []string:
			want = `[localhost, 127.0.0.1, "::1"]`
		}
		switch {
		case key == "dsn":
			want = "sqlite://<data>/wardnet.db"
		case key == "channel.handshakes_per_second" && v == 100*runtime.NumCPU():
			want = perCore
		case strings.HasPrefix(doc, "none"):
			if !reflect.ValueOf(v).IsZero() {
				t.Errorf("%s: the list says none, it is %v", key, v)
			}
			continue
		}
		if doc != want {
			t.Errorf("%s: the list says %q, it is %q", key, doc, want)
		}
	}
	for key := range written {
		t.Errorf("%s is in the list and is no key", key)
	}
}

// leaves collects the values below v by their keys in the file.
func leaves(v reflect.Value, prefix string, into map[string]any) {
	for i := range v.NumField() {
		name := strings.Split(v.Type().Field(i).Tag.Get("yaml"), ",")[0]
		if name == "-" {
			continue
		}
		if f := v.Field(i); f.Kind() == reflect.Struct {
			leaves(f, prefix+name+".", into)
		} else {
			into[prefix+name] = f.Interface()
		}
	}
}

func TestChannelAndMemoryAreChecked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "wardnet.yaml")
	if err := os.WriteFile(file, []byte("memory_mib: 63\nchannel: {handshakes_per_second: -1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := loadConfig(file, "")
	for _, want := range []string{"memory_mib: 63 is under 64", "channel.handshakes_per_second: -1 is under 1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
}
