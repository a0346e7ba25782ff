package faults

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/rekeyhq/rekey/internal/secretsearch"
	"github.com/rekeyhq/rekey/secret"
)

// values are all keys that a story has seen: minted, supplied, stored.
func (t *story) values() []secret.Value {
	all := slices.Concat(t.SM.Seen(), t.OpenAI.Made(), []secret.Value{t.First("key")})
	if t.AWS != nil {
		all = append(all, t.AWS.Seen()...)
	}
	// A store also holds rekey's own records, which are no keys.
	return slices.DeleteFunc(all, func(v secret.Value) bool { return t.Cloud.KeyID(v) == "" || !secretsearch.Searches(v) })
}

// leaks looks for every key in all that the story leaves behind (I5): the histories and memos of Temporal, what workers
// have logged, and files, of which the local store's are encrypted.
func (t *story) leaks(ctx context.Context, dir string) []string {
	values := t.values()
	if len(values) < 2 {
		return []string{"I5: there are no keys to search for: the search proves nothing"}
	}
	search := secretsearch.New(values...)
	var found []string
	look := func(place string, text []byte) {
		for _, fingerprint := range search.In(text) {
			found = append(found, fmt.Sprintf("I5: %s holds a part of the key %s", place, fingerprint))
		}
	}
	look("a worker's log", []byte(t.Logs()))
	histories, err := t.histories(ctx, look)
	if err != nil || histories == 0 {
		found = append(found, fmt.Sprintf("I5: %d histories could be searched: %v", histories, err))
	}
	files := os.DirFS(dir)
	err = fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := fs.ReadFile(files, path)
		look("the file "+path, text)
		return err
	})
	if err != nil {
		found = append(found, fmt.Sprintf("I5: the files could not be searched: %v", err))
	}
	return found
}

// histories hands over all that Temporal keeps of the story's workflows.
func (t *story) histories(ctx context.Context, look func(place string, text []byte)) (n int, err error) {
	var next []byte
	for {
		page, err := t.Temporal.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{NextPageToken: next})
		if err != nil {
			return n, err
		}
		for _, info := range page.GetExecutions() {
			text, err := info.Marshal()
			if err != nil {
				return n, err
			}
			id := info.GetExecution()
			look("what Temporal lists of "+id.GetWorkflowId(), text)
			iter := t.Temporal.GetWorkflowHistory(ctx, id.GetWorkflowId(), id.GetRunId(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
			for iter.HasNext() {
				e, err := iter.Next()
				if err != nil {
					return n, err
				}
				if text, err = e.Marshal(); err != nil {
					return n, err
				}
				look(fmt.Sprintf("event %d of %s", e.GetEventId(), id.GetWorkflowId()), text)
			}
			n++
		}
		if next = page.GetNextPageToken(); len(next) == 0 {
			return n, nil
		}
	}
}
