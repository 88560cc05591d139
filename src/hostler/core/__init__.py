"""Pure decisions: (state, event, now) -> commands. No asyncio, clock, random or IO may be imported here."""
