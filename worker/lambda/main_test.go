package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/worker/lambda/awsrotation"
)

const file = `install: abc123
providers:
  google: {type: google-service-account}
stores:
  asm: {type: aws-secrets-manager, region: eu-central-1, endpoint: "ENDPOINT"}
keys:
  - name: ci
    provider: google
    account: ci@acme.iam.gserviceaccount.com
    stores: [{store: asm, path: prod/ci}]
`

func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "rekey.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestTheFunctionStartsWithoutTemporalAndWithoutProvidersAndRefusesWhatIsNoEvent(t *testing.T) {
	sm, err := simcloud.New(nil).StartAWSSecrets(simcloud.AWSSecretsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer sm.Stop()
	t.Setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere")
	h, err := handler(context.Background(), write(t, strings.Replace(file, "ENDPOINT", sm.URL, 1)), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Handle(context.Background(), []byte(`{"Step":"x"}`)); !errors.Is(err, awsrotation.ErrEvent) {
		t.Fatalf("got %v", err)
	}
}

func TestAFunctionWithoutAStoreOnAWSDoesNotStart(t *testing.T) {
	for sentence, c := range map[string]struct{ name, want string }{
		"no file":           {"/nowhere/rekey.yaml", "there is no such file"},
		"no AWS in it":      {write(t, "install: abc123\n"), "has no store of type aws-secrets-manager"},
		"a mistake in it":   {write(t, "instal: abc123\n"), `there is no field "instal"`},
		"an endpoint of no": {write(t, file), "may not get secrets"},
	} {
		if _, err := handler(context.Background(), c.name, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", sentence, err)
		}
	}
}
