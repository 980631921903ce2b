package keys

// Step returns the key of a step of the call that has that key:
//
//	<key>/s:<name>
//
// It has one part more than the key of any call, so that it is none.
func Step(key, name string) string { return key + "/s:" + escape(name) }
