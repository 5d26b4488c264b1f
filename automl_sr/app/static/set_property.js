// Sets a property of a component of our own to what an event brings.
name => value => ({__type__: 'update', props: {[name]: value}})
