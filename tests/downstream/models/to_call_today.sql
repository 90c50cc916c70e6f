select
    account_id,
    as_of_date,
    bucket,
    coverage_status,
    overdue_net
from {{ ref('crmcom__overdue_worklist') }}
where queue = 'collect'
