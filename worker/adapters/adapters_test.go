package adapters_test

import (
	"path/filepath"
	"testing"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/worker/adapters"
	"github.com/rekeyhq/rekey/worker/engine"
)

const file = `install: acme01
operators:
  - {name: alice, ssh_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"}
  - {name: bob, ssh_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/"}
providers:
  openai:
    type: openai
    rate: 50/s
    concurrency: 20
stores: {local: {type: local, dir: secrets, identity: identity/identity.txt}}
tiers:
  production: {four_eyes: true}
keys:
  - name: openai-prod
    provider: openai
    account: proj_1
    stores: [{store: local, path: openai-prod}]
`

func TestWorkersGetWhatTheFileSays(t *testing.T) {
	c, err := config.Parse(filepath.Join(t.TempDir(), "rekey.yaml"), []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	a, err := adapters.Open(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Operators) != 2 || !a.Keys()[0].Policy.FourEyes {
		t.Errorf("operators %v, keys %v", a.Operators, a.Keys())
	}
	if want := (engine.Limit{Rate: 50, Concurrency: 20}); a.Limits["openai"] != want {
		t.Errorf("got %+v, want %+v", a.Limits["openai"], want)
	}
}
