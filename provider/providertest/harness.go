// Package providertest is the conformance suite of the providers: what rekey relies on, asked of an adapter through
// its provider's simulator.
//
//	func TestConformance(t *testing.T) {
//		providertest.Run(t, func(t *testing.T) providertest.Harness { … })
//	}
//
// A provider is asked for what it claims; for what it does not claim it must say so in the agreed way.
package providertest

import (
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/secret"
)

// Operation is a method of a provider that sends a request.
type Operation string

// The operations.
const (
	Probe   Operation = "Probe"
	List    Operation = "List"
	Mint    Operation = "Mint"
	Disable Operation = "Disable"
	Enable  Operation = "Enable"
	Delete  Operation = "Delete"
	Usage   Operation = "Usage"
)

// Request is how the journal and faults of the simulator name a request.
type Request struct{ Service, Method string }

// Harness is a provider that talks to its own simulator. Every test of the suite gets a new one.
type Harness struct {
	Provider provider.Provider
	Cloud    *simcloud.Cloud
	// Advance moves the clock of Cloud (and of Provider, if it has one).
	Advance func(time.Duration)
	// NewAccount makes an account without keys and returns what rekey.yaml says under `account`.
	NewAccount func(t *testing.T) string
	// UnknownAccount is the name of an account that does not exist.
	UnknownAccount string
	// ForeignKey makes a key of the account as a person does in the provider's console.
	ForeignKey func(t *testing.T, account string) (keyID string, value secret.Value)
	// RefusedValue is a well-formed value that no key of the account has.
	RefusedValue func(t *testing.T, account string) secret.Value
	// NotKeys are texts that Parse must refuse, under a sentence each.
	NotKeys map[string]string
	// Requests name the requests that the claimed operations send; Probe is always among them. For an operation
	// that sends several, it is the one that decides.
	Requests map[Operation]Request
	// Sensitive returns the parts of a value that must not appear anywhere, without parts that are public (a prefix
	// that all keys have, PEM headings). nil: the whole value.
	Sensitive func(v secret.Value) []string
	// ServerWords are texts that the simulator's answers hold and our faults must not.
	ServerWords []string
}

// Run runs the suite. start makes a new simulator and a provider on it, and ends them with t.Cleanup.
func Run(t *testing.T, start func(t *testing.T) Harness) {
	for sentence, test := range map[string]func(*bench){
		"it claims nothing that contradicts itself":                                  claims,
		"what it does not claim it refuses without asking anybody":                   unclaimed,
		"a new key is accepted, listed with its stamp, and names itself":             newKey,
		"parsing a value twice, or with white space around it, changes nothing":      parseTwice,
		"what cannot be a key is rejected with advice that does not repeat it":       notAKey,
		"a refused value is a proof and not an error":                                refusedValue,
		"a disabled key is refused, an enabled one accepted, a deleted one refused":  lifeOfAKey,
		"a key that nobody knows is not found":                                       unknownKey,
		"a key that the provider does not show yet is not found, and not lost":       youngKey,
		"a key that somebody else made is listed without a stamp":                    foreignKey,
		"an account that does not exist is not an empty account":                     unknownAccount,
		"a full account is not taken for an outage":                                  fullAccount,
		"a busy or broken provider is an error of the right class":                   outages,
		"our own credentials refused is access denied, and never a verdict on a key": accessDenied,
		"a mint sends one request, whatever becomes of it":                           oneRequest,
		"a mint whose reply was lost leaves a key that the list finds":               lostReply,
		"a mint that takes effect after its caller gave up leaves a key":             lateCommit,
		"a caller that has no time left gets an outage, and nothing is sent":         noTime,
		"the last use of a key can be asked without using it":                        usage,
	} {
		t.Run(sentence, func(t *testing.T) {
			h := start(t)
			caps := h.Provider.Capabilities()
			// The simulator is as late as the adapter says that its provider is: the numbers must suffice.
			h.Cloud.SetTiming(simcloud.Timing{Propagation: caps.Propagation, RevocationLag: caps.RevocationLag, ListLag: caps.ListLag})
			b := &bench{T: t, Harness: h, caps: caps, lag: max(caps.Propagation, caps.RevocationLag, caps.ListLag) + time.Second}
			b.account = h.NewAccount(t)
			test(b)
			b.checkLeaks()
		})
	}
}
