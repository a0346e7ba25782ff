package provider_test

import (
	"context"
	"fmt"

	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/secret"
)

// byHand is an adapter of a provider that has no API for keys: it can prove one, and people do the rest.
type byHand struct{ provider.Unsupported }

func (byHand) Capabilities() provider.Capabilities { return provider.Capabilities{} }

func (byHand) Parse(v secret.Value) (provider.Parsed, error) { return provider.Parsed{Value: v}, nil }

func (byHand) Probe(context.Context, string, secret.Value) (provider.Proof, error) {
	return provider.Proof{Accepted: true}, nil
}

func (byHand) Console(string) string { return "https://console.example.com/keys" }

// An adapter embeds Unsupported and implements what its provider can do; what it cannot do is refused in words.
func ExampleUnsupported() {
	var p provider.Provider = byHand{provider.Unsupported{Name: "Example"}}
	fmt.Println(p.Capabilities().Mint)
	_, err := p.Mint(context.Background(), "acme", "rekey-acme01-prod-k3f9x2ab-1")
	fmt.Println(err)
	// Output:
	// false
	// mint a key at Example, which has no API for it: refused (unsupported)
}
