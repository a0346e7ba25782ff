package keyless_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/rekeyhq/rekey/internal/keyless"
)

const key = "sk-proj-0123456789_abcdefghij-ABCDEFGHIJ"

func TestAKeyIsFoundWhereAProgramIsToldWhatToDo(t *testing.T) {
	for what, c := range map[string]struct {
		args  []string
		env   string
		where string
	}{
		"alone":                          {args: []string{"rotate", key}, where: "an argument"},
		"behind a flag":                  {args: []string{"--address", key}, where: "--address"},
		"in a flag":                      {args: []string{"--address=" + key}, where: "--address"},
		"as a flag":                      {args: []string{"--" + key}, where: "an argument"},
		"as the address of Temporal":     {env: "TEMPORAL_ADDRESS", where: "TEMPORAL_ADDRESS"},
		"as the namespace":               {env: "TEMPORAL_NAMESPACE", where: "TEMPORAL_NAMESPACE"},
		"as the profile":                 {env: "TEMPORAL_PROFILE", where: "TEMPORAL_PROFILE"},
		"as Temporal's file":             {env: "TEMPORAL_CONFIG_FILE", where: "TEMPORAL_CONFIG_FILE"},
		"as rekey's file":                {env: "REKEY_CONFIG", where: "REKEY_CONFIG"},
		"where a key belongs":            {env: "TEMPORAL_API_KEY"},
		"nowhere, in a usual command":    {args: []string{"--embedded", "--config", "/etc/rekey/rekey.yaml", "--namespace", "payments-production"}},
		"nowhere, in a long host's name": {args: []string{"--address", "temporal-frontend.platform-production.internal.example.com:7233"}},
	} {
		t.Run(what, func(t *testing.T) {
			err := errors.Join(keyless.Arguments(c.args), keyless.Environment(func(name string) string {
				if name == c.env {
					return key
				}
				return "x"
			}))
			var found *keyless.Found
			switch {
			case (c.where == "") == errors.As(err, &found):
				t.Fatalf("got %v", err)
			case c.where != "" && (found.Where != c.where || strings.Contains(err.Error(), key)):
				t.Errorf("where %q: %v", found.Where, err)
			}
		})
	}
}
