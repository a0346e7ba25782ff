package faults

import (
	"context"
	"fmt"
	"os"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/tests/auditor"
	"github.com/rekeyhq/rekey/tests/virtual"
)

// envAuditor is who judges a rotation: the simulated cloud's journal, the client auditor, or both (also if it is empty).
const envAuditor = "REKEY_AUDITOR"

// auditors says who judges.
func auditors() (journal, client bool, err error) {
	switch who := os.Getenv(envAuditor); who {
	case "", "both":
		return true, true, nil
	case "journal":
		return true, false, nil
	case "client":
		return false, true, nil
	default:
		return false, false, fmt.Errorf("%s=%q: expected journal, client or both", envAuditor, who)
	}
}

// audited is a world that both auditors judge, or one of them.
type audited struct {
	*virtual.World
	// client is nil where only the journal judges.
	client  *auditor.Auditor
	clients *auditor.Clients
}

// watch puts the client auditor into a world, whose hooks must be in place and whose worker must be in this process.
func (a *audited) watch() error {
	_, client, err := auditors()
	if err != nil || !client {
		return err
	}
	cfg, err := config.Parse("rekey.yaml", []byte(a.YAML()))
	if err != nil {
		return err
	}
	if a.clients, err = auditor.Dial(context.Background(), cfg, a.Key); err != nil {
		return err
	}
	a.Cloud.Spare(auditor.Agent)
	a.client = auditor.New(a.Key, a.Now, a.clients)
	a.client.Wrap(a.Acts)
	// Between the end of an activity and the beginning of the next one nothing happens but what is late: applications act
	// after that, and when the clock has moved.
	before := a.Before
	a.Before = func(name string) {
		before(name)
		a.client.Step(context.Background())
	}
	a.Moved = func() { a.client.Step(context.Background()) }
	return nil
}

// begins tells the auditor that a rotation begins.
func (a *audited) begins(reason rotation.Reason) {
	if a.client != nil {
		a.client.Reset(reason)
	}
}

// judged is what the auditors say of a rotation.
func (a *audited) judged(res rotation.Result) (problems []string) {
	if journal, _, _ := auditors(); journal {
		problems = a.Check()
	}
	return append(problems, a.seen(res)...)
}

// seen is what the client auditor says of a rotation.
func (a *audited) seen(res rotation.Result) (problems []string) {
	if a.client == nil {
		return nil
	}
	for _, f := range a.client.Findings(context.Background(), res) {
		problems = append(problems, "client auditor: "+f)
	}
	return problems
}

// Close ends the world.
func (a *audited) Close() {
	if a.World != nil {
		a.World.Close()
	}
	if a.clients != nil {
		a.clients.Close()
	}
}
