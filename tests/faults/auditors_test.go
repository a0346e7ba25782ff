package faults

import (
	"context"
	"fmt"
	"os"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/tests/auditor"
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

// audited puts the client auditor into a stage, whose hooks must be in place.
func (s *stage) audited() error {
	_, client, err := auditors()
	if err != nil || !client {
		return err
	}
	cfg, err := config.Parse("rekey.yaml", []byte(s.YAML()))
	if err != nil {
		return err
	}
	clients, err := auditor.Dial(context.Background(), cfg, s.Key)
	if err != nil {
		return err
	}
	s.Cloud.Spare(auditor.Agent)
	a := auditor.New(s.Key, s.Now, clients)
	a.Wrap(s.Acts)
	// Between the end of an activity and the beginning of the next one nothing happens but what is late: applications act
	// after that, and when the clock has moved.
	before := s.Before
	s.Before = func(name string) {
		before(name)
		a.Step(context.Background())
	}
	s.Moved = func() { a.Step(context.Background()) }
	s.client, s.closeClients = a, clients.Close
	return nil
}

// begins tells the auditor that a rotation begins.
func (s *stage) begins(reason rotation.Reason) {
	if s.client != nil {
		s.client.Reset(reason)
	}
}

// judged is what the auditors say of a rotation.
func (s *stage) judged(res rotation.Result) (problems []string) {
	if journal, _, _ := auditors(); journal {
		problems = s.Check()
	}
	if s.client != nil {
		for _, f := range s.client.Findings(context.Background(), res) {
			problems = append(problems, "client auditor: "+f)
		}
	}
	return problems
}

// Close ends the stage.
func (s *stage) Close() {
	s.World.Close()
	if s.closeClients != nil {
		s.closeClients()
	}
}
