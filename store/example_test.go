package store_test

import (
	"fmt"

	"github.com/rekeyhq/rekey/store"
)

// What a promote does to the record: the pending version is current, and what was current is previous.
func ExampleRecord_Promoted() {
	r := store.Record{
		Current: &store.Version{Number: "3", Fingerprint: "0a1b2c3d4e5f"},
		Pending: &store.Version{Number: "4", Fingerprint: "e63695655fb1"},
	}
	r = r.Promoted(*r.Pending)
	fmt.Println("pending", r.Pending, "current", r.Current.Number, "previous", r.Previous.Number)
	// Output: pending <nil> current 4 previous 3
}
