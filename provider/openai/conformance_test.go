package openai_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/provider/openai"
	"github.com/rekeyhq/rekey/provider/providertest"
	"github.com/rekeyhq/rekey/secret"
)

func TestConformance(t *testing.T) {
	providertest.Run(t, func(t *testing.T) providertest.Harness {
		var mu sync.Mutex
		now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
		cloud := simcloud.New(func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		})
		sim, err := cloud.StartOpenAI(simcloud.OpenAIOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(sim.Stop)
		p, err := openai.New(openai.Options{BaseURL: sim.URL})
		if err != nil {
			t.Fatal(err)
		}
		projects := 0
		return providertest.Harness{
			Provider: p, Cloud: cloud,
			Advance: func(d time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				now = now.Add(d)
			},
			NewAccount: func(*testing.T) string {
				projects++
				return fmt.Sprintf("proj_%d", projects)
			},
			ForeignKey: func(_ *testing.T, project string) (string, secret.Value) { return sim.CreateKey(project, "by hand") },
			RefusedValue: func(*testing.T, string) secret.Value {
				return secret.FromString("sk-proj-0123456789abcdefghijklmnopqrstuvwxyz")
			},
			NotKeys: map[string]string{
				"nothing":             "",
				"a word":              "correct-horse-battery-staple",
				"a shortened display": "sk-proj-****************WXYZ",
				"an admin key":        "sk-admin-0123456789abcdefghijklmnop",
				"two lines":           "sk-proj-0123456789abcdefghij\nsk-proj-0123456789abcdefghij",
			},
			Requests: map[providertest.Operation]providertest.Request{
				providertest.Probe: {Service: "openai", Method: simcloud.OpenAIListModels},
			},
			Sensitive:   func(v secret.Value) []string { return []string{strings.TrimPrefix(v.Reveal(), "sk-proj-")} },
			ServerWords: []string{"Incorrect API key", "The server had an error", "Rate limit reached"},
		}
	})
}
