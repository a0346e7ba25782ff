package adapters_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/worker/adapters"
)

const channels = `install: acme01
channels:
  - {name: team, type: slack, url_file: slack-url}
  - {name: oncall, type: webhook, url: "https://oncall.example.com/hooks/rekey", secret_env: ONCALL_SECRET}
providers: {openai: {type: openai}}
stores: {local: {type: local, dir: secrets, identity: identity/identity.txt}}
`

func TestAChannelWhoseSecretIsMissingIsFoundWithoutNotifyingAnybody(t *testing.T) {
	dir := t.TempDir()
	c, err := config.Parse(filepath.Join(dir, "rekey.yaml"), []byte(channels))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("ONCALL_SECRET", "0123456789abcdef")
	err = adapters.CheckChannels(c)
	if err == nil || !strings.Contains(err.Error(), "channel team") || strings.Contains(err.Error(), "oncall") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "slack-url"), []byte("https://hooks.slack.com/services/T/B/X\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := adapters.CheckChannels(c); err != nil {
		t.Error(err)
	}
}
