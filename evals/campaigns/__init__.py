"""Campaigns: a question to raters about some models' answers, from its creation to its report.

campaign          what a campaign is, and the request for a new one
lifecycle         campaigns are created, opened, closed, listed and loaded; models join and leave
campaign_prompts  the sources of its prompts
invites           links for people and groups, signed with the page's secret
raters            people who take part, and how their data is removed
pair_sampling     which two models and which prompt come next, with the probability
set_aside         models and pairs that failed, and until when they are not shown
answers           prepared and recorded answers, and requests to models for missing ones
leaks             answers that name their model
answer_html       answers as HTML in which nothing can be loaded, followed or sent
battles           the next battle of a rater
ballots           votes, their undo, skips and reveals
preparation       requests for all answers of a campaign, in advance
progress          a campaign's progress, for its owner
report            the campaign's verdicts
bundle            a campaign exported to files, and the check that they give the same verdicts
bundle_files      those files in a folder or zip: written whole, with a manifest of their hashes
"""
