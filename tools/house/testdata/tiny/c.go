package tiny

func (a Alias) other() string { return string(rune(a.field)) } // a method of A

func (a A) third() {}
