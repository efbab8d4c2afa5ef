//! Several nodes under load on one database, one of which is killed or cut off from it: every run ends, nothing is done twice, and what was under way is taken over.

mod comes_back;
mod halts;
mod kit;
mod load;
mod rewound;
mod upgrade;
mod verdict;
