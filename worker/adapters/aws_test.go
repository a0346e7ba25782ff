package adapters_test

import (
	"context"
	"strings"
	"testing"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/worker/adapters"
)

const onAWS = `install: abc123
providers:
  openai:
    type: openai
stores:
  asm:
    type: aws-secrets-manager
    region: eu-central-1
    role: arn:aws:iam::123456789012:role/ops/rekey
    read_lag: 1h
keys:
  - name: openai-prod
    provider: openai
    account: proj_1
    stores:
      - {store: asm, path: prod/openai}
`

func TestToOpenAStoreOnAWSAsksNobody(t *testing.T) {
	c, err := config.Parse("rekey.yaml", []byte(onAWS))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", t.TempDir()) // without credentials
	if _, err := adapters.Open(t.Context(), c, nil); err != nil {
		t.Fatal(err)
	}
}

func TestAStoreOnALoopbackAWSNeedsNoCredentialsOfTheMachine(t *testing.T) {
	sm, err := simcloud.New(nil).StartAWSSecrets(simcloud.AWSSecretsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer sm.Stop()
	for _, name := range []string{"prod/openai", "rekey/prod/openai"} {
		if _, err := sm.CreateSecret(name, secret.Value{}); err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.Parse("rekey.yaml", []byte(strings.Replace(onAWS, "    read_lag: 1h", "    endpoint: "+sm.URL, 1)))
	if err != nil {
		t.Fatal(err)
	}
	a, err := adapters.Open(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Stores["asm"].Check(context.Background(), "prod/openai"); err != nil {
		t.Fatal(err)
	}
}
