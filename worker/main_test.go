package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

func TestAWorkerThatIsStartedWithAKeyDoesNothingAndDoesNotRepeatIt(t *testing.T) {
	const key = "sk-proj-0123456789_abcdefghij-ABCDEFGHIJ"
	for what, c := range map[string]struct {
		args []string
		env  string
		want string
	}{
		"as the address":                    {[]string{"--address", key}, "", "--address looks like a key"},
		"as the namespace":                  {[]string{"--namespace=" + key}, "", "--namespace looks like a key"},
		"as the file":                       {[]string{"--config", key}, "", "--config looks like a key"},
		"as an unknown flag":                {[]string{"--" + key}, "", "an argument looks like a key"},
		"in place of a number":              {[]string{"--port", key}, "", "--port looks like a key"},
		"as an argument":                    {[]string{key}, "", "an argument looks like a key"},
		"as the address in its environment": {nil, "TEMPORAL_ADDRESS", "TEMPORAL_ADDRESS looks like a key"},
	} {
		t.Run(what, func(t *testing.T) {
			var logs bytes.Buffer
			code := execute(context.Background(), c.args, func(name string) string {
				if name == c.env {
					return key
				}
				return ""
			}, &logs)
			if code != 2 || !strings.Contains(logs.String(), c.want) || strings.Contains(logs.String(), key) {
				t.Errorf("exit code %d: %s", code, &logs)
			}
		})
	}
}
