{# Since when the terms of a tenant's overdue accounts were last read, for `read_since`. #}
{% macro first_days_of_terms() -%}
    select
        daily.source_relation,
        min(daily.last_observed_date) as first_day
    from {{ ref('crmcom__account_daily') }} as daily
    inner join {{ ref('int_crmcom__as_of') }} as as_of
        on
            daily.source_relation = as_of.source_relation
            and daily.date_day = as_of.as_of_date
    where daily.overdue_gross > 0
    group by daily.source_relation
{%- endmacro %}
