-- Cases for named handlers only, which are few.
CREATE INDEX cases_named_only ON cases (id) WHERE named_only = 1;
