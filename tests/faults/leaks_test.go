package faults

import (
	"context"
	"fmt"
	"strings"
	"testing"

	sdkclient "go.temporal.io/sdk/client"
)

func TestAPlantedLeakIsFound(t *testing.T) {
	t.Parallel()
	servers := newServers(t)
	s := usual()
	for place, plant := range map[string]func(*story, string) error{
		"a history": func(s *story, part string) error {
			_, err := s.Temporal.ExecuteWorkflow(context.Background(), sdkclient.StartWorkflowOptions{ID: "planted", TaskQueue: "nobody"}, "nothing", part)
			return err
		},
		"a log": func(s *story, part string) error {
			s.Acts.Audit.Info("rotated", "key", part)
			return nil
		},
	} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			var planted error
			out, err := tell(t.Context(), s, servers, func(s *story) {
				key := s.values()[0].Reveal()
				at := strings.Index(key, `\n`) + 100 // in the second line of the private key
				planted = plant(s, fmt.Sprintf("%s and so on", key[at:at+12]))
			})
			if err != nil || planted != nil {
				t.Fatal(err, planted)
			}
			if len(out.broken) != 1 || !strings.Contains(out.broken[0], "I5: ") {
				t.Errorf("%v, want what was planted", out.broken)
			}
		})
	}
}
